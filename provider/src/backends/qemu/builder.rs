//! One build on this computer: wait for others that want the same image, build, put it into the store.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use chrono::Utc;
use uuid::Uuid;

use super::image::{self, Build, BuildError, BuiltImage};
use super::local::failed;
use super::store::{Fingerprint, KeyLock, Metadata, Waited};
use super::sweep::Sweep;
use super::{Local, QemuImageSpec};
use crate::domain::{BackendError, BuildRequest, Built, Image, ImageBuilder, Template, TemplateRequest};
use crate::process::{BuildLog, Redactor};

/// How many lines of the log a diagnostic shows.
const TAIL: usize = 20;

/// Builds images of one shape.
#[derive(Debug)]
pub struct LocalBuilder {
    local: Arc<Local>,
    spec: QemuImageSpec,
}

impl LocalBuilder {
    pub(super) fn new(local: Arc<Local>, spec: QemuImageSpec) -> Self {
        Self { local, spec }
    }

    /// Takes an image that another process finished while this one waited for the lock.
    fn shared(&self, request: &BuildRequest) -> Result<Option<Image>, BackendError> {
        let store = &self.local.store;
        let found = store.find(&request.key).map_err(|error| failed("looking for the image", error))?;
        let young = |image: &Image| request.not_before.is_none_or(|limit| image.created_at >= limit);
        for image in found.into_iter().filter(young) {
            match store.hold(&image.id, &request.holder) {
                Ok(()) => return Ok(Some(image)),
                Err(super::store::StoreError::NotFound { .. }) => {}
                Err(error) => return Err(failed("claiming the image", error)),
            }
        }
        Ok(None)
    }

    async fn build_locked(&self, request: &BuildRequest, lock: &KeyLock) -> Result<Image, BackendError> {
        self.local.sweep(Sweep::Abandoned).await?;
        let id = Uuid::new_v4();
        let log = self.log(request, id)?;
        let result = self.build_and_store(request, id, &log).await;
        match &result {
            Err(error) if !request.cancel.is_cancelled() => {
                lock.report_failure(&crate::domain::backend::causes(error));
            }
            // A cancelled build is no failure to share: those that wait build themselves.
            _ => {}
        }
        result
    }

    async fn build_and_store(
        &self,
        request: &BuildRequest,
        id: Uuid,
        log: &BuildLog,
    ) -> Result<Image, BackendError> {
        let store = &self.local.store;
        let name = image_name(request, id);
        log.step(&format!("Building image {name}"));
        let started = Instant::now();
        let partial = store.begin(id).map_err(|error| failed("preparing the build", error))?;
        let build = Build {
            id,
            spec: &request.spec,
            qemu: &self.spec,
            host: &self.local.host(),
            work_dir: partial.dir(),
            log,
            cancel: &request.cancel,
        };
        let built = image::build(&build).await;
        if let Err(BuildError::Kept { .. }) = &built {
            partial.keep().map_err(|error| BackendError::failed("marking the guest as kept", error))?;
        }
        let built = built.map_err(|error| build_error(error, log))?;
        let metadata = metadata(request, &built, name, started, log)
            .map_err(|error| BackendError::failed("reading the finished disk", error))?;
        let image = store
            .commit(id, &metadata, &request.holder)
            .map_err(|error| failed("storing the image", error))?;
        log.step(&format!("Image {} is finished: {} bytes", image.id, image.size_bytes));
        Ok(image)
    }

    fn log(&self, request: &BuildRequest, id: Uuid) -> Result<BuildLog, BackendError> {
        let spec = &request.spec;
        let secrets = spec.environment.secret.values();
        let redactor =
            Redactor::new(secrets.chain(spec.steps.iter().flat_map(|step| step.environment.secret.values())));
        BuildLog::create(&self.local.store.logs(), &spec.name_prefix, &id.to_string(), redactor)
            .map_err(|error| BackendError::failed("writing the build's log", error))
    }
}

#[async_trait]
impl ImageBuilder for LocalBuilder {
    async fn build(&self, request: &BuildRequest) -> Result<Built, BackendError> {
        self.local.store.ensure_id().map_err(|error| failed("preparing the local store", error))?;
        let lock = self.local.store.lock_key(&request.key, &request.cancel).await;
        let (lock, waited) = lock.map_err(|error| failed("waiting for a build of the same image", error))?;
        if request.share
            && waited == Waited::Yes
            && let Some(image) = self.shared(request)?
        {
            return Ok(Built::Shared(image));
        }
        self.build_locked(request, &lock).await.map(Built::Fresh)
    }

    async fn template(&self, request: &TemplateRequest) -> Result<Template, BackendError> {
        image::template(&self.local.host(), &self.spec, request).await
    }
}

/// Prefix, first 12 digits of the cache key, 6 of the build's id.
fn image_name(request: &BuildRequest, id: Uuid) -> String {
    let id = id.simple().to_string();
    format!("{}-{}-{}", request.spec.name_prefix, &request.key.as_str()[..12], &id[..6])
}

fn metadata(
    request: &BuildRequest,
    built: &BuiltImage,
    name: String,
    started: Instant,
    log: &BuildLog,
) -> std::io::Result<Metadata> {
    Ok(Metadata {
        name,
        cache_key: request.key.clone(),
        disk: built.disk.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        format: built.format.name().to_owned(),
        sha256: built.sha256.clone(),
        fingerprint: Fingerprint::of(&built.disk)?,
        resolved_base: built.resolved_base.clone(),
        created_at: Utc::now(),
        build_seconds: started.elapsed().as_secs(),
        log_path: log.path().to_owned(),
        labels: request.labels.clone(),
        inputs: request.inputs.clone(),
    })
}

fn build_error(error: BuildError, log: &BuildLog) -> BackendError {
    BackendError::Build {
        source: Box::new(error),
        attribute: None,
        log: log.path().to_owned(),
        tail: log.tail(TAIL),
    }
}
