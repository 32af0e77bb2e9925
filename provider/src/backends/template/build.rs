//! Builds a template: Packer runs it where it is, with values in private files.
//!
//! A build is in the journal before Packer starts. What Packer says that it made is on the disk before anything is asked
//! about it, so that a build that is killed loses nothing that Packer had told of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{TimeDelta, Utc};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::error::BuildError;
use super::inputs::{self, Inputs};
use super::settle::{self, Left, MADE, Told, within};
use super::trace::Traced;
use super::{CLOUD, REGION, TemplateSpec, Templates, environment, images, records, told, values};
use crate::domain::causes;
use crate::domain::image::name_of;
use crate::domain::{BackendError, BuildRequest, Built, Image, ImageBackend, ImageBuilder, Made};
use crate::journal::{Entry, Journal, Phase, Record};
use crate::packer::{self, Folder, Job, Own, Packer, PackerError};
use crate::process::{BuildLog, HandOver, Limits, Turn, private};

/// What Packer has to clean up when it is cancelled.
const GRACE: Duration = Duration::from_secs(5 * 60);
/// How long a build that failed may take to delete what it made.
const CLEANING: Duration = Duration::from_secs(5 * 60);
/// How long a thing that was just made may take to be seen: clouds are slow to know of it.
const APPEARING: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(2);
/// The folder of what Packer is given, in the build's folder.
pub(super) const FOLDER: &str = "packer";

/// Builds one template.
#[derive(Debug)]
pub struct TemplateBuilder {
    templates: Arc<Templates>,
    spec: TemplateSpec,
}

/// One build.
struct Build<'a> {
    templates: &'a Templates,
    spec: &'a TemplateSpec,
    request: &'a BuildRequest,
    log: &'a BuildLog,
    id: Uuid,
    name: String,
    dir: PathBuf,
    /// Packer's temporary files. The sockets of its plugins are there, whose paths may have 108 bytes: it is apart from the
    /// rest.
    tmp: PathBuf,
    started: Instant,
}

#[async_trait]
impl ImageBuilder for TemplateBuilder {
    async fn build(&self, request: &BuildRequest) -> Result<Built, BackendError> {
        let templates = &self.templates;
        let path = templates.data_dir.join("locks").join(format!("{CLOUD}-{}", request.key));
        let turn = Turn::wait(&path, &request.cancel).await;
        let _turn = turn.map_err(|error| BackendError::failed("building the image", error))?;
        let left = templates.recover(&request.cancel).await;
        if request.share {
            let images = templates.images(None);
            if let Some(image) = request.take(&images, images.find(&request.key).await?).await? {
                return Ok(Built::Shared(image));
            }
        }
        let id = Uuid::new_v4();
        let of_environment = environment::secrets(&environment::handed_on());
        let secrets = self.spec.secrets.values().chain(&of_environment);
        let log = request.log(&templates.data_dir.join("logs"), id, secrets)?;
        left.iter().for_each(|line| log.step(line));
        let short = id.simple().to_string();
        let build = Build {
            templates,
            spec: &self.spec,
            request,
            log: &log,
            id,
            name: name_of(&request.spec.name_prefix, &request.key, id),
            dir: templates.build_dir(id),
            tmp: std::env::temp_dir().join(format!("sindri-{}", &short[..12])),
            started: Instant::now(),
        };
        build.run().await.map(Built::Fresh).map_err(|error| error.into_backend(&log))
    }
}

impl TemplateBuilder {
    pub(super) fn new(templates: Arc<Templates>, spec: TemplateSpec) -> Self {
        Self { templates, spec }
    }
}

impl Build<'_> {
    async fn run(&self) -> Result<Image, BuildError> {
        self.log.step(&format!("Building image {} from {}", self.name, self.spec.template.display()));
        let inputs = inputs::read(self.spec).map_err(|mistakes| {
            let first = mistakes.into_iter().next();
            let first = first.map(|it| (it.attribute, it.problem));
            let (attribute, problem) =
                first.unwrap_or(("packer.template".into(), "It cannot be read.".into()));
            BuildError::Refused { attribute, problem }
        })?;
        self.request.check_unchanged(Some(inputs.key.clone()))?;
        let limits = Limits::cancelled_by(&self.request.cancel);
        let found = self.templates.packer.locate(&self.templates.runner, &limits).await;
        let packer = found.map_err(PackerError::from)?;
        let journal = Journal::open(&self.templates.data_dir);
        let mut record = journal.begin(self.entry())?;
        record.advance(Phase::Building)?;
        let built = self.make(&record, packer, &inputs).await;
        let (made, failure) = match built {
            Ok((made, None)) => match self.finish(&made).await {
                Ok(image) => {
                    // Its record names a holder: not handed on, the image would be held for ever by nobody.
                    if let Err(error) = self.end(record) {
                        self.log.step(&format!("The build's entry stays in the journal: {}", causes(&error)));
                    }
                    return Ok(image);
                }
                Err(error) => (made, error),
            },
            Ok((made, Some(failure))) => (made, failure),
            Err(error) => (Vec::new(), error),
        };
        Err(self.give_up(record, &made, failure).await)
    }

    fn entry(&self) -> Entry {
        let request = self.request;
        Entry {
            build: self.id,
            cloud: CLOUD.to_owned(),
            region: REGION.to_owned(),
            name: self.name.clone(),
            key: request.key.clone(),
            share: request.share,
            holder: request.holder.clone(),
            tags: BTreeMap::new(),
            access: json!(Left {
                directory: self.spec.directory.clone(),
                tmp: self.tmp.clone(),
                log: self.log.path().to_owned(),
                inputs: request.inputs.clone(),
            }),
            started_at: Utc::now(),
            deadline: request.deadline + TimeDelta::minutes(10),
            phase: Phase::Begun,
        }
    }

    /// Has Packer build. Returns what was made, and why the build failed if it did.
    async fn make(
        &self,
        record: &Record,
        mut packer: Packer,
        inputs: &Inputs,
    ) -> Result<(Vec<Made>, Option<BuildError>), BuildError> {
        private::create_dir(&self.dir).map_err(BuildError::io("create", &self.dir))?;
        let folder = Folder::create(&self.dir.join(FOLDER)).map_err(BuildError::from)?;
        DirBuilder::new().mode(0o700).create(&self.tmp).map_err(BuildError::io("create", &self.tmp))?;
        let written = values::write(self.spec, &inputs.template, &folder.template());
        let var_files = written.map_err(|(path, error)| BuildError::io("write", &path)(error))?;
        packer.env.extend(environment::of_packer(&self.templates.cache_dir));
        let env = environment::handed_on();
        let job = Job {
            folder: &folder,
            cwd: &self.spec.directory,
            runner: &self.templates.runner,
            log: self.log,
            cancel: &self.request.cancel,
            grace: GRACE,
            keep: false,
            keep_output: true,
            then: Some(HandOver { file: record.path(), lock: record.lock_fd(), env: &env }),
        };
        self.init(&packer, &job, inputs).await?;
        self.log.step(&format!("Handing over to Packer {}", packer.version));
        let spec = self.spec;
        let own = Own {
            var_files: &var_files,
            only: &spec.only,
            except: &spec.except,
            on_error: &spec.on_error,
            parallel_builds: spec.parallel_builds,
            force: spec.force,
            debug: spec.debug,
        };
        let ran = packer.build_own(&job, &spec.template, &self.tmp, &own).await?;
        let made = self.templates.made(&ran.report, &spec.directory);
        // Before anything is asked about it.
        let told = Told { made: made.clone(), whole: ran.failure.is_none(), ..Told::default() };
        let unread = ran.failure.as_ref().is_some_and(PackerError::is_unread);
        let written = if unread { Ok(()) } else { self.note(&told) };
        if unread || written.is_err() {
            // What Packer told stands in its output, and nowhere else.
            std::mem::forget(folder);
        }
        let failure = match ran.failure {
            Some(failure) => Some(failure.into()),
            None if made.is_empty() => {
                Some(BuildError::NoArtifact { said: self.log.redact(&ran.report.step_tail()) })
            }
            None => written.err(),
        };
        Ok((made, failure))
    }

    /// Writes down what is known of the things that were made.
    fn note(&self, told: &Told) -> Result<(), BuildError> {
        told.write(&self.dir).map_err(BuildError::io("write", &self.dir.join(MADE)))
    }

    /// Gets the plugins that the template requires. Packers before 1.7 know no such thing.
    async fn init(&self, packer: &Packer, job: &Job<'_>, inputs: &Inputs) -> Result<(), BuildError> {
        let template = &inputs.template;
        if !template.content.requires_plugins || packer.version < packer::Version::new(1, 7, 0) {
            return Ok(());
        }
        let required = format!("{} {}", self.spec.template.display(), self.request.key);
        let lock_dir = &self.templates.cache_dir;
        Ok(packer.init_own(job, &self.spec.template, &self.tmp, &required, lock_dir).await?)
    }

    /// Sees that all is there that Packer tells of, and writes the image down.
    async fn finish(&self, made: &[Made]) -> Result<Image, BuildError> {
        // Packer has read the files itself, at times of its own.
        self.request.check_unchanged(self.spec.key_inputs().ok())?;
        let begun = Instant::now();
        let there = loop {
            let there = self.templates.look(made).await.map_err(BuildError::Unseen)?;
            let Some(what) = images::absent(made, &there) else { break there };
            if begun.elapsed() > APPEARING || made.iter().all(|one| !one.files.is_empty()) {
                return Err(BuildError::Absent { what });
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.request.cancel.cancelled() => return Err(BuildError::Cancelled),
            }
        };
        let request = self.request;
        let mut record = records::Record {
            id: self.id,
            name: self.name.clone(),
            key: request.key.clone(),
            made: made.to_vec(),
            created_at: Utc::now(),
            build_seconds: self.started.elapsed().as_secs(),
            log_path: self.log.path().to_owned(),
            holders: BTreeSet::new(),
            inputs: request.inputs.clone(),
        };
        let held = self.templates.claim(&mut record, &request.holder);
        let kept = held.and_then(|()| self.templates.keep(&record)).inspect_err(|_| {
            // What was made is deleted: nobody is to find it.
            let _ = self.templates.records().remove(self.id);
        });
        kept.map_err(BuildError::io("write", &self.templates.data_dir))?;
        for one in made {
            self.log.step(&format!("Packer made {}", told(one)));
        }
        Ok(images::of_record(record, &there))
    }

    /// Deletes what was made all the same. What cannot be deleted stays in the journal.
    async fn give_up(&self, record: Record, made: &[Made], failure: BuildError) -> BuildError {
        if matches!(&failure, BuildError::Packer(error) if error.is_unread()) {
            private::remove_build_dir(&self.tmp);
            let told = "What Packer made is not known yet: the build stays in the journal. The next build of a template looks again, or `terraform-provider-sindri sweep`".to_owned();
            return BuildError::Left { source: Box::new(failure), told };
        }
        // Not the request's own: cancelled or late, it is to clean up all the same.
        let stop = CancellationToken::new();
        // A failed build of `abort` is left as it is.
        let traces = matches!(failure, BuildError::Cancelled) || self.spec.on_error != "abort";
        let cleaned = self.clean_up(record.entry(), made, traces, &stop);
        let told = match within(CLEANING, &stop, cleaned).await {
            Ok(Cleaned { made, left, unseen }) => {
                let deleted = made.iter().filter(|one| unseen.iter().all(|(other, _)| other != *one));
                let mut lines = in_words(deleted, &left);
                lines.extend(settle::in_words(&unseen, record.path()));
                // What is not seen may be in another account, and cost money there: the entry stays.
                let ended = if unseen.is_empty() { self.end(record) } else { Ok(()) };
                lines.extend(ended.err().map(|error| error.to_string()));
                lines
            }
            Err(error) => undeleted(made, &causes(&error)),
        };
        private::remove_build_dir(&self.tmp);
        if told.is_empty() {
            return failure;
        }
        BuildError::Left { source: Box::new(failure), told: told.join("\n") }
    }

    /// Deletes what was made, and with `traces` what was begun.
    async fn clean_up(
        &self,
        entry: &Entry,
        made: &[Made],
        traces: bool,
        cancel: &CancellationToken,
    ) -> Result<Cleaned, BackendError> {
        let mut told = Told { made: made.to_vec(), doubtful: (!traces).then(Vec::new), ..Told::default() };
        let Traced { lost, outcome } =
            self.templates.trace(&mut told, self.log.path(), entry.started_at).await;
        let there = self.templates.look(&told.made).await?;
        let mut unseen = self.templates.unseen(&mut told, &there, self.log.path()).await?;
        unseen.extend(lost);
        told.note(&self.dir, &unseen);
        let left = self.templates.delete(self.id, &told.made, cancel).await?;
        outcome.map(|()| Cleaned { made: told.made, left, unseen })
    }

    /// Nothing of the build can be lost any more.
    fn end(&self, record: Record) -> Result<(), BuildError> {
        private::remove_build_dir(&self.tmp);
        private::remove_build_dir(&self.dir);
        Ok(record.end()?)
    }
}

/// What became of what a failed build had made.
struct Cleaned {
    /// All of it.
    made: Vec<Made>,
    /// What stays, and why.
    left: Vec<String>,
    /// What we do not see, with the account that we look in.
    unseen: Vec<(Made, String)>,
}

/// What became of things that a failed build had made, in words.
fn in_words<'a>(made: impl Iterator<Item = &'a Made>, left: &[String]) -> Vec<String> {
    let deleted: Vec<String> = made.filter(|one| one.managed).map(told).collect();
    let mut lines = Vec::new();
    if !deleted.is_empty() {
        lines.push(format!("What the template had made all the same is deleted: {}", deleted.join(", ")));
    }
    if !left.is_empty() {
        lines.push(format!("This was made and stays: {}", left.join(", ")));
    }
    lines
}

fn undeleted(made: &[Made], why: &str) -> Vec<String> {
    let all: Vec<String> = made.iter().map(told).collect();
    let all = if all.is_empty() { "what it had begun".to_owned() } else { all.join(", ") };
    vec![format!(
        "This was made and cannot be deleted yet: {all}: {why}\nThe next build of a template tries again, or `terraform-provider-sindri sweep`"
    )]
}
