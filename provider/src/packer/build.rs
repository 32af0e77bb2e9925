//! One run of Packer: plugins, validation, the build, and what it made.

use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::command::{self, Call, Own};
use super::output::Record;
use super::{Folder, Packer, PackerError, Report, Said, init};
use crate::process::{BuildLog, Command, Ending, Following, HandOver, Limits, ProcessError, Runner};

/// How long a validation may take.
const VALIDATION: Duration = Duration::from_secs(60);
/// How many lines are kept back at most.
const MOST_HELD: usize = 256;
/// What Packer prints, in the job's folder.
pub const OUTPUT: &str = "output";

/// What is built, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The template and its values.
    pub folder: &'a Folder,
    /// Where Packer runs.
    pub cwd: &'a Path,
    /// Starts programs.
    pub runner: &'a Runner,
    /// What happens is written here, redacted.
    pub log: &'a BuildLog,
    /// Ends the build; Packer then cleans up.
    pub cancel: &'a CancellationToken,
    /// How long that may take before all is killed.
    pub grace: Duration,
    /// Whether Packer leaves everything as it is when the build fails.
    pub keep: bool,
    /// Whether all that Packer prints stays in the folder, for whoever ends the build when we are killed.
    pub keep_output: bool,
    /// What is to be done after Packer when we are not there any more: it may have been killed, too, or failed to clean
    /// up.
    pub then: Option<HandOver<'a>>,
}

impl Job<'_> {
    /// Writes into the log what Packer has against the template.
    pub(super) fn tell(&self, failure: &PackerError) {
        if let PackerError::Invalid { output, .. } = failure {
            output.lines().for_each(|line| self.log.line(line));
        }
    }
}

/// A run that came to its end.
#[derive(Debug)]
pub struct Ran {
    /// What it told. Where one of several builds failed, the others have made something.
    pub report: Report,
    /// [`PackerError::Invalid`] when Packer began nothing, [`PackerError::Build`] when it failed; or that it was cancelled or
    /// took too long, which it may have noticed only after it had made all.
    pub failure: Option<PackerError>,
}

impl Packer {
    /// Gets the plugins that the template requires; `required` names them. `lock_dir` is shared by all runs.
    ///
    /// # Errors
    /// When they cannot be had.
    pub async fn init(&self, job: &Job<'_>, required: &str, lock_dir: &Path) -> Result<(), PackerError> {
        let (template, tmp) = (job.folder.template(), job.folder.tmp());
        let call = Call { template: &template, tmp: &tmp, cwd: job.cwd };
        init::init(self, &call, required, lock_dir, job.runner, job.log, job.cancel).await
    }

    /// Whether Packer accepts the template and its values.
    ///
    /// # Errors
    /// [`PackerError::Invalid`] with what it says.
    pub async fn validate(&self, job: &Job<'_>) -> Result<(), PackerError> {
        let (template, tmp) = (job.folder.template(), job.folder.tmp());
        let call = Call { template: &template, tmp: &tmp, cwd: job.cwd };
        let limits = Limits { cancel: job.cancel.clone(), timeout: Some(VALIDATION) };
        let finished = job.runner.run(&command::validate(self, &call), None, &limits).await?;
        // Some builds of Packer end with code 0 whatever happened.
        let output = job.log.redact(finished.output.trim());
        if finished.code == 0 && !output.lines().any(|line| line.starts_with("Error: ")) {
            return Ok(());
        }
        Err(PackerError::Invalid { program: self.program.clone(), version: self.version, output })
    }

    /// Builds. What Packer says goes into the log, and to `said` as it comes.
    ///
    /// # Errors
    /// [`PackerError::Invalid`] when Packer does not accept the template; [`PackerError::Build`] when it fails, with the
    /// failing step's lines; when it is cancelled, after its clean-up.
    pub async fn build(
        &self,
        job: &Job<'_>,
        said: impl FnMut(Said, &str) + Send,
    ) -> Result<Report, PackerError> {
        let (template, tmp) = (job.folder.template(), job.folder.tmp());
        let call = Call { template: &template, tmp: &tmp, cwd: job.cwd };
        let ran = self.run(job, &call, &command::build(self, &call, job.keep), said).await?;
        ran.failure.map_or(Ok(ran.report), Err)
    }

    /// Builds a template of the user's own, in place. `tmp` is for Packer's temporary files.
    ///
    /// # Errors
    /// When it cannot be run.
    pub async fn build_own(
        &self,
        job: &Job<'_>,
        template: &Path,
        tmp: &Path,
        own: &Own<'_>,
    ) -> Result<Ran, PackerError> {
        let call = Call { template, tmp, cwd: job.cwd };
        let ran = self.run(job, &call, &command::build_own(self, &call, own), |_, _| {}).await?;
        ran.failure.iter().for_each(|failure| job.tell(failure));
        Ok(ran)
    }

    /// Gets the plugins that a template of the user's own requires; `required` is different for different ones.
    ///
    /// # Errors
    /// When they cannot be had.
    pub async fn init_own(
        &self,
        job: &Job<'_>,
        template: &Path,
        tmp: &Path,
        required: &str,
        lock_dir: &Path,
    ) -> Result<(), PackerError> {
        let call = Call { template, tmp, cwd: job.cwd };
        init::init(self, &call, required, lock_dir, job.runner, job.log, job.cancel).await
    }

    async fn run(
        &self,
        job: &Job<'_>,
        call: &Call<'_>,
        command: &Command,
        mut said: impl FnMut(Said, &str) + Send,
    ) -> Result<Ran, PackerError> {
        let output = job.folder.file(OUTPUT);
        let folders = [call.tmp, output.as_path(), call.cwd];
        let ending = Ending { grace: job.grace, alone: true };
        let following = Following { output: &output, keep: job.keep_output, ending, then: job.then };
        let mut report = Report::default();
        // What it says before it has accepted the template: one of another form may be next.
        let mut held: Vec<String> = Vec::new();
        let line = |line: &str| match Record::parse(line) {
            Some(record) => {
                if let Some((voice, text)) = report.take(&record) {
                    held.extend(text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned));
                    if report.has_begun() || held.len() > MOST_HELD {
                        held.drain(..).for_each(|line| job.log.line(&line));
                    }
                    said(voice, text);
                }
            }
            // What comes before Packer speaks in records: a crash, a loader's complaint.
            None => job.log.line(line),
        };
        let limits = Limits::cancelled_by(job.cancel);
        let followed = job.runner.follow(command, &following, &limits, line).await;
        let redact = |text: String| job.log.redact(&text);
        if followed.is_ok()
            && let Some(output) = report.objections().map(redact)
        {
            let (program, version) = (self.program.clone(), self.version);
            let failure = PackerError::Invalid { program, version, output };
            return Ok(Ran { report, failure: Some(failure.naming_a_full_disk(&folders)) });
        }
        held.iter().for_each(|line| job.log.line(line));
        let code = match followed {
            Ok(code) => code,
            Err(error @ ProcessError::Start { .. }) => return Err(error.into()),
            Err(early) => return Ok(Ran { report, failure: Some(early.into()) }),
        };
        if code == 0 && !report.has_failed() {
            return Ok(Ran { report, failure: None });
        }
        let (reason, tail) = (redact(report.reason(code)), redact(report.step_tail()));
        let failure = PackerError::Build { reason, tail, late: report.is_late() };
        Ok(Ran { report, failure: Some(failure.naming_a_full_disk(&folders)) })
    }
}
