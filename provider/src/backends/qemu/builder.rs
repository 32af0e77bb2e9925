//! One build on this computer: wait for others that want the same image, build, put it into the store.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::image::{self, Build, BuildError, BuiltImage};
use super::local::failed;
use super::store::{Fingerprint, KeyLock, Metadata};
use super::sweep::Sweep;
use super::{Local, QemuImageSpec};
use crate::domain::image::name_of;
use crate::domain::{
    BackendError, BuildRequest, Built, Image, ImageBackend, ImageBuilder, Template, TemplateRequest,
};
use crate::process::BuildLog;

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

    async fn build_locked(&self, request: &BuildRequest, lock: &KeyLock) -> Result<Image, BackendError> {
        self.local.sweep(Sweep::Abandoned, &request.cancel).await?;
        let id = Uuid::new_v4();
        let log = request.log(&self.local.store.logs(), id, request.spec.secrets())?;
        let result = self.build_and_store(request, id, &log).await;
        match &result {
            Err(error) if !request.cancel.is_cancelled() => {
                lock.report_failure(&crate::domain::causes(error));
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
        let name = name_of(&request.spec.name_prefix, &request.key, id);
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
        let built = built.map_err(|error| self.build_error(error, request, log))?;
        if let Err(error) = request.check_unchanged(self.spec.key_inputs().ok()) {
            let _ = std::fs::remove_dir_all(partial.dir());
            return Err(self.build_error(error.into(), request, log));
        }
        let metadata = match metadata(request, &built, name, started, log) {
            Ok(metadata) => metadata,
            Err(error) => {
                let _ = std::fs::remove_dir_all(partial.dir());
                return Err(BackendError::failed("reading the finished disk", error));
            }
        };
        let holder = request.holder.clone();
        let stored = self.local.in_store("storing the image", &request.cancel, move |store| {
            store.commit(id, &metadata, &holder)
        });
        let image = stored.await?;
        log.step(&format!("Image {} is finished: {} bytes", image.id, image.size_bytes));
        Ok(image)
    }

    fn build_error(&self, error: BuildError, request: &BuildRequest, log: &BuildLog) -> BackendError {
        BackendError::Build {
            attribute: error.attribute(&self.spec, &request.spec),
            source: Box::new(error.redacted(|text| log.redact(text))),
            log: log.path().to_owned(),
            tail: log.tail(TAIL),
        }
    }
}

#[async_trait]
impl ImageBuilder for LocalBuilder {
    async fn build(&self, request: &BuildRequest) -> Result<Built, BackendError> {
        self.local.ensure_id(&request.cancel).await?;
        let lock = self.local.store.lock_key(&request.key, &request.cancel).await;
        let lock = lock.map_err(|error| failed("waiting for a build of the same image", error))?;
        if request.share
            && let Some(image) = request.take(&*self.local, self.local.find(&request.key).await?).await?
        {
            return Ok(Built::Shared(image));
        }
        self.build_locked(request, &lock).await.map(Built::Fresh)
    }

    async fn newer_base(&self, base: &str, _built: DateTime<Utc>) -> Option<String> {
        self.local.bases.newer(&self.local.host(), &self.spec, base).await
    }

    async fn template(&self, request: &TemplateRequest) -> Result<Template, BackendError> {
        image::template(&self.local.host(), &self.spec, request).await
    }
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio_util::sync::CancellationToken;

    use super::super::host::AcceleratorChoice;
    use super::super::image::tests::{qemu, spec};
    use super::super::store::Store;
    use super::super::{Base, ForeignStore, ImageSource};
    use super::*;
    use crate::domain::cache_key::KeyInputs;
    use crate::domain::{Action, CacheKey, Holder, Labels};
    use crate::process::Runner;

    /// A builder whose every program is missing: what it gives was not built.
    fn builder(dir: &Path, base: &Path) -> LocalBuilder {
        let local = Local {
            store: Store::at(dir.join("data")),
            cache_dir: dir.join("cache"),
            accelerator: AcceleratorChoice::Auto,
            foreign_store: ForeignStore::Error,
            runner: Runner::new("/no/such/program"),
            packer: crate::packer::Settings::default(),
            bases: Default::default(),
        };
        let base = Base::Image { source: ImageSource::Path(base.to_owned()), sha256: None };
        LocalBuilder::new(Arc::new(local), qemu(base, true))
    }

    fn request(builder: &LocalBuilder, upload: &Path) -> BuildRequest {
        let (source, destination) = (upload.to_owned(), "/x".into());
        let spec = spec(&[Action::Upload { source, destination, mode: None, owner: None }]);
        let key_inputs = KeyInputs { target: builder.spec.key_inputs().unwrap(), ..KeyInputs::default() };
        BuildRequest {
            key: CacheKey::of(&spec, &key_inputs).unwrap(),
            spec,
            key_inputs,
            labels: Labels::default(),
            inputs: serde_json::Value::Null,
            holder: Holder::random(),
            share: true,
            not_before: None,
            deadline: Utc::now(),
            cancel: CancellationToken::new(),
        }
    }

    fn files(dir: &Path) -> [std::path::PathBuf; 2] {
        ["upload", "base"].map(|name| {
            std::fs::write(dir.join(name), name).unwrap();
            dir.join(name)
        })
    }

    /// Another apply built the image, and let the lock go, after this one had looked for it.
    #[tokio::test]
    async fn who_gets_a_free_lock_looks_again() {
        let dir = tempfile::tempdir().unwrap();
        let [upload, base] = files(dir.path());
        let builder = builder(dir.path(), &base);
        let request = request(&builder, &upload);
        let store = &builder.local.store;
        let id = Uuid::new_v4();
        let partial = store.begin(id).unwrap();
        let disk = partial.dir().join("disk.qcow2");
        std::fs::write(&disk, "x").unwrap();
        let log = request.log(&builder.local.store.logs(), id, request.spec.secrets()).unwrap();
        let built = BuiltImage {
            disk: disk.clone(),
            format: super::super::DiskFormat::Qcow2,
            sha256: hex::encode(crate::domain::cache_key::file_digest(&disk).unwrap()),
            size_bytes: 1,
            virtual_size: 1,
            resolved_base: "x".into(),
        };
        let metadata = metadata(&request, &built, "x".into(), Instant::now(), &log).unwrap();
        store.commit(id, &metadata, &Holder::random()).unwrap();
        drop(partial);
        match builder.build(&request).await {
            Ok(Built::Shared(image)) => assert_eq!(image.id, id.to_string()),
            other => panic!("{other:?}"),
        }
        assert_eq!(store.holders(&id.to_string()).unwrap().len(), 2);
        let alone = BuildRequest { share: false, ..request };
        assert!(matches!(builder.build(&alone).await, Err(BackendError::Build { .. })));
    }

    #[test]
    fn an_edit_during_the_build_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let [upload, base] = &files;
        let builder = builder(dir.path(), base);
        let request = request(&builder, upload);
        let check = || request.check_unchanged(builder.spec.key_inputs().ok());
        check().unwrap();
        for file in &files {
            let before = std::fs::read(file).unwrap();
            std::fs::write(file, "edited").unwrap();
            check().expect_err(&file.display().to_string());
            std::fs::write(file, before).unwrap();
            check().unwrap();
        }
        for file in &files {
            std::fs::rename(file, dir.path().join("away")).unwrap();
            check().expect_err(&file.display().to_string());
            std::fs::rename(dir.path().join("away"), file).unwrap();
        }
    }
}
