//! Builds an AMI: Packer runs the steps in a builder, EC2 makes an image of it.
//!
//! A build goes through phases, and after each it is known what there may be: *begun* (nothing), *building* (what
//! carries the build's tag), *built* (an AMI, whose id is known), *accepted* (it is what was asked for), *complete* (it
//! has its key, and is found by it). Until it is complete, a failure removes all that carries the tag.
//!
//! Two processes that build the same key at once are not kept apart: there is no lock on AWS. Each makes an image of its
//! own, and look-ups take the oldest.

mod access;
mod artifact;
mod complete;
mod engine;
mod error;
mod name;
mod remains;
mod source;
mod template;

use error::BuildError;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use aws_sdk_ec2::types::Image as Ami;
use chrono::SecondsFormat;
use uuid::Uuid;

use self::access::Access;
use super::AwsImageSpec;
use crate::backends::aws::region::Region;
use crate::backends::aws::{Aws, tags};
use crate::domain::{BackendError, BuildRequest, Built, Image, ImageBackend, ImageBuilder, OnError};
use crate::packer;
use crate::process::{BuildLog, Redactor, Runner, Secret, private};

/// How many lines of the log a diagnostic shows.
const TAIL: usize = 20;

/// Programs that a build uses.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Starts them.
    pub runner: Runner,
    /// Which Packer is used.
    pub packer: packer::Settings,
    /// A folder that all runs on this computer share.
    pub cache_dir: PathBuf,
}

/// Builds one image.
#[derive(Debug)]
pub struct AwsBuilder {
    aws: Arc<Aws>,
    spec: AwsImageSpec,
    tools: Tools,
}

impl Aws {
    /// Who builds this image.
    pub fn builder(self: &Arc<Self>, spec: AwsImageSpec, tools: Tools) -> AwsBuilder {
        AwsBuilder { aws: Arc::clone(self), spec, tools }
    }
}

/// One build.
struct Build<'a> {
    aws: &'a Aws,
    region: &'a Region,
    spec: &'a AwsImageSpec,
    tools: &'a Tools,
    request: &'a BuildRequest,
    id: String,
    name: String,
    /// The build's own folder: key, steps, what Packer is given. Private, and gone with the build.
    dir: PathBuf,
    log: &'a BuildLog,
    started: Instant,
}

#[async_trait]
impl ImageBuilder for AwsBuilder {
    async fn build(&self, request: &BuildRequest) -> Result<Built, BackendError> {
        if self.spec.verify_boot && !request.spec.checks.is_empty() {
            let problem = "checks in a machine from the finished image are not in this version: set `verify_boot = false`, and they run in the builder before the image is made";
            return Err(BackendError::Refused {
                attribute: "aws.verify_boot".into(),
                problem: problem.into(),
            });
        }
        let region = self.aws.region_for(Some(&self.spec.region), "building the image").await?;
        if request.share
            && let Some(image) = self.shared(request).await?
        {
            return Ok(Built::Shared(image));
        }
        let id = Uuid::new_v4();
        let credentials = self.aws.credentials().await;
        let credentials = credentials.map_err(|error| error.into_backend("building the image"))?;
        let log = self.log(request, id, &credentials)?;
        let build = Build {
            aws: &self.aws,
            region: &region,
            spec: &self.spec,
            tools: &self.tools,
            request,
            id: id.to_string(),
            name: name::of(request, id).map_err(|error| error.into_backend(&log))?,
            dir: self.aws.data_dir.join("builds").join(id.to_string()),
            log: &log,
            started: Instant::now(),
        };
        let built = build.run().await;
        let image = built.map_err(|error| error.into_backend(&log))?;
        Ok(Built::Fresh(Image { log_path: Some(log.path().to_owned()), ..image }))
    }
}

impl AwsBuilder {
    /// Takes an image that another process has finished since the plan.
    async fn shared(&self, request: &BuildRequest) -> Result<Option<Image>, BackendError> {
        let images = self.aws.images(Some(&self.spec.region));
        let young = |image: &Image| request.not_before.is_none_or(|limit| image.created_at >= limit);
        for image in images.find(&request.key).await?.into_iter().filter(young) {
            match images.hold(&image.id, &request.holder).await {
                Ok(()) => return Ok(Some(image)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn log(
        &self,
        request: &BuildRequest,
        id: Uuid,
        credentials: &aws_credential_types::Credentials,
    ) -> Result<BuildLog, BackendError> {
        let spec = &request.spec;
        let of_steps = spec.steps.iter().flat_map(|step| step.environment.secret.values());
        let ours = [Some(credentials.secret_access_key()), credentials.session_token()];
        let ours: Vec<Secret> = ours.into_iter().flatten().map(Secret::new).collect();
        let redactor = Redactor::new(spec.environment.secret.values().chain(of_steps).chain(&ours));
        BuildLog::create(&self.aws.data_dir.join("logs"), &spec.name_prefix, &id.to_string(), redactor)
            .map_err(|error| BackendError::failed("writing the build's log", error))
    }
}

impl Build<'_> {
    async fn run(&self) -> Result<Image, BuildError> {
        self.log.step(&format!("Building image {} in {}", self.name, self.region.name));
        // What can be refused is refused before anything is made.
        let base = source::resolve(self.region, self.spec).await?;
        let base_id = base.image_id().unwrap_or_default();
        self.log.step(&format!("Starting from {base_id} ({})", base.name().unwrap_or("without a name")));
        let networks = access::networks(&self.spec.builder, &self.request.cancel).await?;
        let packer = engine::find(self).await?;
        private::create_dir(&self.dir).map_err(BuildError::io("create", &self.dir))?;
        // Begun: from here on there may be objects with the build's tag.
        let outcome = self.make(&packer, &base, networks).await;
        match outcome {
            Ok(image) => {
                self.remove_dir();
                Ok(image)
            }
            Err(error) if self.keeps(&error) => Err(self.kept(error).await),
            Err(error) => {
                self.remove_remains(error.image()).await;
                Err(error)
            }
        }
    }

    async fn make(
        &self,
        packer: &packer::Packer,
        base: &Ami,
        networks: Vec<String>,
    ) -> Result<Image, BuildError> {
        let access = Access::make(self).await?;
        // Building: Packer has a builder, its volumes, a group.
        let built = engine::run(self, packer, base, &access, networks).await;
        let kept = built.as_ref().err().is_some_and(|error| self.keeps(error));
        if !kept {
            access.remove(self.region).await;
        }
        // Built: the AMI's id is known.
        let id = built?;
        self.log.step(&format!("Packer made {id}"));
        let finish = async {
            let ami = artifact::accept(self.region, self.spec, &id, &self.request.cancel).await?;
            // Accepted: what is missing are its tags.
            complete::complete(self, base, &ami).await
        };
        // Complete: it is found by its key.
        finish.await.map_err(|error| BuildError::Unfinished { image: id.clone(), source: Box::new(error) })
    }

    /// Whether the builder stays for a look.
    fn keeps(&self, error: &BuildError) -> bool {
        self.request.spec.on_error == OnError::Keep
            && !self.request.cancel.is_cancelled()
            && matches!(error, BuildError::Steps(_))
    }

    /// What Packer makes for the build carries, and the image from its first moment. Its key comes last, and not from
    /// here.
    fn tags(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::from([(tags::NAME.to_owned(), self.name.clone())]);
        all.extend(self.request.labels.tags.clone());
        let deadline = self.request.deadline.to_rfc3339_opts(SecondsFormat::Secs, true);
        all.extend([(tags::BUILD.to_owned(), self.id.clone()), (tags::DEADLINE.to_owned(), deadline)]);
        all
    }

    async fn kept(&self, error: BuildError) -> BuildError {
        remains::kept(self, error).await
    }

    /// Removes what carries the build's tag. What cannot be removed now is past its deadline some time.
    async fn remove_remains(&self, image: Option<&str>) {
        if let Err(error) = remains::remove(self.aws, self.region, &self.id, image).await {
            let told = crate::domain::backend::causes(&error);
            self.log.step(&format!("What is left of the build cannot be removed: {told}"));
        }
        self.remove_dir();
    }

    fn remove_dir(&self) {
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            tracing::warn!(folder = %self.dir.display(), %error, "a build's folder cannot be removed");
        }
    }
}
