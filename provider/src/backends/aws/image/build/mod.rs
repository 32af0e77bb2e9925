//! Builds an AMI: Packer runs the steps in a builder, EC2 makes an image of it.
//!
//! A build goes through phases, and after each it is known what there may be: *begun* (nothing), *building* (what
//! carries the build's tag), *built* (an AMI, whose id is known), *accepted* (it is what was asked for, and passed its
//! checks), *complete* (it has its key, and is found by it). Each is in the journal before it begins, so that a build that
//! is killed is finished or removed by whoever comes next. Until it is accepted, a failure removes all that carries the tag;
//! from then on, all but the image.
//!
//! Two builds of the same key on one computer are kept apart by a lock; on two computers they are not: there is no lock on
//! AWS. Each makes an image of its own, and look-ups take the oldest.

mod access;
mod artifact;
mod builder;
mod complete;
mod engine;
mod error;
mod guard;
mod keep;
mod look;
mod name;
mod newer;
mod preview;
mod source;
mod template;
mod verify;
mod work;

use error::BuildError;
use work::Work;

pub use crate::backends::Tools;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_sdk_ec2::types::Image as Ami;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::access::Access;
use super::AwsImageSpec;
use crate::backends::aws::region::Region;
use crate::backends::aws::sweep::{self, How, SweepError, Swept};
use crate::backends::aws::{Aws, CLOUD, tags};
use crate::domain::causes;
use crate::domain::{
    BackendError, BuildRequest, Built, Check, Image, ImageBuilder, LookRequest, OnError, Template,
    TemplateRequest, unless_cancelled,
};
use crate::journal::{Entry, Phase, Record};
use crate::packer;
use crate::process::{BuildLog, Secret, Turn, private};
use crate::provision;

/// How many lines of the log a diagnostic shows.
const TAIL: usize = 20;
/// How long a build waits for what killed builds left to go.
const RECOVERING: Duration = Duration::from_secs(60);

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
    /// What Packer gets, and the log does not show.
    credentials: &'a Credentials,
    id: Uuid,
    name: String,
    /// The build's own folder: key, steps, what Packer is given. Private, and gone with the build.
    dir: PathBuf,
    log: &'a BuildLog,
    started: Instant,
}

#[async_trait]
impl ImageBuilder for AwsBuilder {
    async fn build(&self, request: &BuildRequest) -> Result<Built, BackendError> {
        let doing = "building the image";
        let region = self.aws.region_for(Some(&self.spec.region), doing);
        let region = unless_cancelled(doing, region, &request.cancel).await?;
        // One build of a key at a time on this computer: whoever waited finds what was built.
        let _turn = if request.share { Some(self.turn(request).await?) } else { None };
        if let Some(image) = Box::pin(self.shared_after_others(request)).await? {
            return Ok(Built::Shared(image));
        }
        let id = Uuid::new_v4();
        let credentials = async { self.aws.credentials().await.map_err(|error| error.into_backend(doing)) };
        let credentials = unless_cancelled(doing, credentials, &request.cancel).await?;
        let ours = [Some(credentials.secret_access_key()), credentials.session_token()];
        let ours: Vec<Secret> = ours.into_iter().flatten().map(Secret::new).collect();
        let secrets = request.spec.secrets().chain(&ours);
        let log = request.log(&self.aws.data_dir.join("logs"), id, secrets)?;
        let spec = access::on_this_computer(&self.spec).map_err(|error| error.into_backend(&log))?;
        let build = Build {
            aws: &self.aws,
            region: &region,
            spec: &spec,
            tools: &self.tools,
            request,
            credentials: &credentials,
            id,
            name: name::of(&request.spec.name_prefix, &request.key, id)
                .map_err(|error| error.into_backend(&log))?,
            dir: self.aws.build_dir(id),
            log: &log,
            started: Instant::now(),
        };
        let built = build.run().await;
        let image = built.map_err(|error| error.into_backend(&log))?;
        Ok(Built::Fresh(Image { log_path: Some(log.path().to_owned()), ..image }))
    }

    async fn look_through(&self, request: &LookRequest) -> Result<(), BackendError> {
        self.look(request).await
    }

    async fn newer_base(&self, base: &str, built: DateTime<Utc>) -> Option<String> {
        let region = self.aws.region(Some(&self.spec.region)).await;
        let region = region.inspect_err(|error| tracing::debug!(%error, "no region to look for a base in"));
        newer::newer(region.ok()?.as_ref(), &self.spec, base, built).await
    }

    async fn template(&self, request: &TemplateRequest) -> Result<Template, BackendError> {
        let endpoint = self.aws.endpoint(&self.spec.region).await;
        preview::template(&self.spec, &self.tools, endpoint, request).await
    }
}

impl AwsBuilder {
    /// Waits until nobody else on this computer builds this key in this region.
    async fn turn(&self, request: &BuildRequest) -> Result<Turn, BackendError> {
        let path = self.aws.turn_path(&self.spec.region, &request.key);
        let never = CancellationToken::new();
        let failed = |error| BackendError::failed("waiting for another build of the image", error);
        let turn = async { Turn::wait(&path, &never).await.map_err(failed) };
        unless_cancelled("building the image", turn, &request.cancel).await
    }

    /// Finishes or removes what killed builds left in the region, and takes the image if it is there: what is finished may
    /// be it. What is past its deadline is no image that could be taken, and is removed meanwhile.
    async fn shared_after_others(&self, request: &BuildRequest) -> Result<Option<Image>, BackendError> {
        let (region, cancel) = (Some(self.spec.region.as_str()), &request.cancel);
        let end = tokio::time::Instant::now() + RECOVERING;
        let recovering = async {
            tell_all(self.aws.recover(region, How::Until(end - RECOVERING / 3), cancel).await);
        };
        cancel.run_until_cancelled(recovering).await;
        let sweeping = async { tell_all(self.aws.sweep_overdue(region, How::Until(end), cancel).await) };
        let shared = async { if request.share { self.shared(request).await } else { Ok(None) } };
        tokio::join!(cancel.run_until_cancelled(sweeping), shared).1
    }

    /// Takes an image that another process has finished since the plan.
    async fn shared(&self, request: &BuildRequest) -> Result<Option<Image>, BackendError> {
        let images = self.aws.images(Some(&self.spec.region));
        let found =
            unless_cancelled("looking for the image", images.find_now(&request.key), &request.cancel).await?;
        request.take(&images, found).await
    }
}

/// What became of what killed builds left. That it stays is no reason not to build.
fn tell_all(swept: Result<Vec<Swept>, SweepError>) {
    match swept {
        Ok(swept) => swept.iter().for_each(tell),
        Err(error) => tracing::warn!(error = causes(&error), "what killed builds left is not removed"),
    }
}

/// What became of what a killed build left.
pub(super) fn tell(swept: &Swept) {
    match swept {
        Swept::Removed(it) => tracing::info!(%it, "removed what a killed build left"),
        Swept::Completed(it) => tracing::info!(%it, "finished what a killed build had made"),
        Swept::Unclaimed(it) => tracing::info!(%it, "took off a killed apply's claim on what stays"),
        Swept::Left { build, why, .. } => {
            tracing::warn!(build, error = causes(why), "what a killed build left is not removed");
        }
    }
}

impl Build<'_> {
    async fn run(&self) -> Result<Image, BuildError> {
        self.log.step(&format!("Building image {} in {}", self.name, self.region.name));
        // What can be refused is refused before anything is made.
        let (base, networks, packer) = tokio::join!(
            self.unless_stopped(source::resolve(self.region, self.spec)),
            access::networks(&self.spec.builder, &self.request.cancel),
            engine::find(self),
        );
        let base = base??;
        let base_id = base.image_id().unwrap_or_default();
        self.log.step(&format!("Starting from {base_id} ({})", base.name().unwrap_or("without a name")));
        let (networks, packer) = (networks?, packer?);
        // Begun: from here on there may be objects with the build's tag.
        let entry = self.unless_stopped(Box::pin(self.entry())).await??;
        let mut record = self.aws.journal().begin(entry)?;
        match Box::pin(self.make(&mut record, &packer, &base, networks)).await {
            Ok(image) => {
                self.work().remove_dir();
                // Killed before its holder is in state, nobody would ever let go of it.
                self.aws.claims.add(record);
                Ok(image)
            }
            Err(error) if self.keeps(&error) => {
                let image = record.entry().phase.image_id().map(str::to_owned);
                record.advance(Phase::Kept)?;
                Err(keep::kept(self, error, image.as_deref()).await)
            }
            Err(error) => {
                let work = self.work();
                let settling = async |record| work::settle(self.aws, record, self.log).await;
                Box::pin(guard::settled(&work, record, settling)).await;
                work.remove_dir();
                Err(error)
            }
        }
    }

    /// What may be given up halfway, when somebody stops the build.
    async fn unless_stopped<T>(&self, doing: impl Future<Output = T>) -> Result<T, BuildError> {
        self.request.cancel.run_until_cancelled(doing).await.ok_or(BuildError::Cancelled)
    }

    async fn entry(&self) -> Result<Entry, BuildError> {
        let request = self.request;
        Ok(Entry {
            build: self.id,
            cloud: CLOUD.to_owned(),
            region: self.region.name.clone(),
            name: self.name.clone(),
            key: request.key.clone(),
            share: request.share,
            holder: request.holder.clone(),
            tags: BTreeMap::new(),
            access: self.aws.access().await?,
            started_at: Utc::now(),
            deadline: sweep::over_by(request.deadline),
            phase: Phase::Begun,
        })
    }

    async fn make(
        &self,
        record: &mut Record,
        packer: &packer::Packer,
        base: &Ami,
        networks: Vec<String>,
    ) -> Result<Image, BuildError> {
        private::create_dir(&self.dir).map_err(BuildError::io("create", &self.dir))?;
        record.advance(Phase::Building)?;
        let work = self.work();
        let access = Access::make(&work, &networks, self.request.spec.security.clean_sensitive_data).await?;
        // Packer has a builder and its volumes. What a failure leaves, the way in among it, is settled by the journal.
        let id = engine::run(self, record, packer, base, &access).await?;
        record.advance(Phase::Built { image_id: id.clone() })?;
        self.log.step(&format!("Packer made {id}"));
        let unfinished = |error| BuildError::Unfinished { image: id.clone(), source: Box::new(error) };
        let accepted = artifact::accept(self.region, self.spec, &id, &self.request.cancel);
        let ami = self.unless_stopped(accepted).await?.map_err(unfinished)?;
        let machine = match self.spec.verify_boot {
            true => {
                let checks = self.checks(&access)?;
                Some(
                    guard::guarded(&work, record, Box::pin(verify::verify(&work, &access, &ami, &checks)))
                        .await?,
                )
            }
            false => None,
        };
        let seconds = complete::accept(self, record, base, &ami).await.map_err(unfinished)?;
        let is_ended = self.end(&work, record, machine).await?;
        // The way in is in use as long as a machine is there.
        let removed = async { is_ended && builder::end(&work).await && access.remove(self.region).await };
        let completed = complete::complete(self, record, base, &ami, seconds);
        let (alone, image) = tokio::join!(removed, completed);
        let image = image.map_err(unfinished)?;
        // A machine that does not end, and what of the way into it stays, go with the next build or `sweep`. Killed before this
        // is written, only the image's tags are missing, and the entry has these, too.
        record.advance(Phase::Claimed { image_id: id.clone(), alone })?;
        Ok(image)
    }

    /// Ends the machine that the image was checked in. Whether it is gone: the image is accepted by now.
    async fn end(
        &self,
        work: &Work<'_>,
        record: &Record,
        machine: Option<verify::Machine<'_>>,
    ) -> Result<bool, BuildError> {
        let Some(machine) = machine else { return Ok(true) };
        let is_ended = guard::guarded(work, record, machine.end()).await;
        // Whoever interrupts wants nothing to be left, and settling the build waits for the machine.
        if self.request.cancel.is_cancelled() { Err(BuildError::Cancelled) } else { Ok(is_ended) }
    }

    /// Whether what failed stays for a look.
    fn keeps(&self, error: &BuildError) -> bool {
        self.request.spec.on_error == OnError::Keep
            && !self.request.cancel.is_cancelled()
            && (matches!(error, BuildError::Steps(_)) || error.is_of_the_image())
    }

    fn work(&self) -> Work<'_> {
        Work {
            region: self.region,
            spec: self.spec,
            runner: &self.tools.runner,
            id: self.id,
            dir: &self.dir,
            log: self.log,
            tags: self.tags(),
            cancel: &self.request.cancel,
        }
    }

    /// What is checked in a machine from the finished image.
    fn checks(&self, access: &Access) -> Result<Vec<Check>, BuildError> {
        let spec = &self.request.spec;
        let own_key = self.spec.for_everybody.then(|| access.own_key()).transpose()?;
        let look = provision::look(spec.security, own_key.as_deref());
        Ok(look.into_iter().chain(spec.checks.clone()).collect())
    }

    fn tags(&self) -> BTreeMap<String, String> {
        let deadline = tags::in_words(sweep::over_by(self.request.deadline));
        work::tags_of(&self.name, &self.request.labels.tags, &self.id.to_string(), &deadline)
    }
}
