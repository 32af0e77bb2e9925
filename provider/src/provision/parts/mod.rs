//! An image's steps as what Packer's provisioners are given: files of our own making, which a shell in the guest reads.
//!
//! The environment of a step stands in its file, quoted, and the file goes to a folder of the guest's memory: nothing
//! of it is in Packer's template, in a process list, or on the image's disk. Whoever logs in owns that folder; root
//! reads it.

mod run;

pub use run::{Failure, run};

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{RUN_SCRIPT, STAGE, Task, UPLOAD, UploadError, Work, upload};
use crate::domain::{Check, Environment};
use crate::packer::Variables;
use crate::process::{BuildLog, Runner, private};
use crate::ssh::{self, SshError};

/// The provisioners' blocks, which templates include; `parts` are the kinds of what is done.
pub const PROVISIONERS: (&str, &str) =
    ("provisioners", include_str!("../../../../templates/packer/provisioners.hcl.tera"));

/// How a part is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A script.
    Script,
    /// A script with a time limit.
    Limited,
    /// A file to be copied into the guest.
    Upload,
    /// Restarts the guest.
    Reboot,
    /// Waits for the guest to be back.
    Return,
}

/// One provisioner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// How it is run.
    pub kind: Kind,
    /// For the log; the same for all parts of a step.
    pub name: String,
    /// Whether it is one of the image's checks.
    pub check: bool,
    /// Its file, relative to where Packer runs.
    pub source: String,
    /// Where that goes in the guest.
    pub destination: String,
    /// How long it may take.
    pub timeout: Option<Duration>,
}

/// Why the parts could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// A file of ours.
    #[error("could not write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A value that a shell cannot have.
    #[error("could not prepare step {name}")]
    Shell {
        /// The step.
        name: String,
        /// Why.
        #[source]
        source: SshError,
    },
    /// A file that is to be uploaded.
    #[error(transparent)]
    Upload(#[from] UploadError),
}

/// A folder in the guest's memory that only who logs in, and root, can read.
const MEMORY: &str = "/run/sindri-build";
/// A folder on the guest's disk for what may be large, as private.
const INCOMING: &str = "/var/tmp/sindri-incoming";
/// Makes both folders. Of what somebody else has put there before, nothing is used.
const PREPARE: &str = "for folder in /run/sindri-build /var/tmp/sindri-incoming; do\n    \
                       rm -rf \"$folder\" && mkdir -m 700 \"$folder\" && chown \"${SUDO_USER:-root}\" \"$folder\" || exit 1\n\
                       done\n";
/// Restarts, and never returns: Packer takes the end of the connection for the end of this part.
const REBOOT: &str = "cat /proc/sys/kernel/random/boot_id >/var/tmp/sindri-boot-id && sync\n\
                      systemctl reboot || reboot\nsleep 600\nexit 1\n";
/// In the old system: waits for it to go, which fails this part, and it is tried again. [`PREPARE`] follows.
const RETURN: &str = "[ \"$(cat /proc/sys/kernel/random/boot_id)\" != \"$(cat /var/tmp/sindri-boot-id)\" ] || \
                      { sleep 600; exit 1; }\nrm -f /var/tmp/sindri-boot-id\n";

/// What the writer works with.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// Where Packer runs.
    pub cwd: &'a Path,
    /// The files' folder, relative to that; made.
    pub folder: &'a str,
    /// How long a restart may take.
    pub boot: Duration,
    /// Starts programs.
    pub runner: &'a Runner,
    /// What they say is written here.
    pub log: &'a BuildLog,
    /// Ends them early.
    pub cancel: &'a CancellationToken,
}

/// Writes the parts' files, in the order in which they are run.
#[derive(Debug)]
pub struct Writer<'a> {
    site: Site<'a>,
    parts: Vec<Part>,
}

impl<'a> Writer<'a> {
    /// Begins, with what all other parts need.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn begin(site: Site<'a>) -> Result<Self, PartError> {
        let mut writer = Self { site, parts: Vec::new() };
        writer.add(Kind::Script, "prepare the guest", PREPARE, "/tmp/sindri-prepare", None)?;
        Ok(writer)
    }

    /// A step of the image, or of its clean-up.
    ///
    /// # Errors
    /// When a file cannot be written, or what is uploaded cannot be read.
    pub async fn task(&mut self, task: &Task) -> Result<(), PartError> {
        match &task.work {
            Work::Script(text) => {
                let stage = stage(&format!("printf %s {} >{STAGE}/script", ssh::quote(text)), "script");
                self.script(&task.name, &format!("{stage}{}", line(task, "", RUN_SCRIPT)?), task.timeout)
            }
            Work::Upload { source, .. } => {
                let relative = format!("{}/{:03}.tar", self.site.folder, self.parts.len());
                let Site { cwd, runner, log, cancel, .. } = self.site;
                let name = upload::pack(runner, source, &cwd.join(&relative), log, cancel).await?;
                let there = format!("{INCOMING}/{}.tar", self.parts.len());
                self.push(Kind::Upload, &task.name, relative, &there, None);
                let how = format!("mv {there} {STAGE}/upload.tar && chown root: {STAGE}/upload.tar");
                let stage = stage(&how, "upload.tar");
                self.script(&task.name, &format!("{stage}{}", line(task, &name, UPLOAD)?), task.timeout)
            }
            Work::Reboot => {
                self.add(Kind::Reboot, &task.name, REBOOT, "", None)?;
                let limit = task.timeout.unwrap_or(self.site.boot);
                // Of each of Packer's tries, of which the first ends with the old system.
                let back = format!("{RETURN}{PREPARE}");
                self.add(Kind::Return, &task.name, &back, "", Some(limit / 3))
            }
        }
    }

    /// A check of the image.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn check(&mut self, check: &Check, timeout: Duration) -> Result<(), PartError> {
        let first = self.parts.len();
        let work = Work::Script(format!("#!/bin/sh\n{}\n", check.command));
        let (environment, timeout) = (Environment::default(), Some(timeout));
        self.task(&Task { name: check.name.clone(), work, environment, user: None, timeout }).await?;
        self.parts.iter_mut().skip(first).for_each(|part| part.check = true);
        Ok(())
    }

    /// A script of our own, run as root.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn script(&mut self, name: &str, text: &str, timeout: Option<Duration>) -> Result<(), PartError> {
        let kind = if timeout.is_some() { Kind::Limited } else { Kind::Script };
        self.add(kind, name, text, &format!("{MEMORY}/part"), timeout)
    }

    /// All that is to be done.
    pub fn finish(self) -> Vec<Part> {
        self.parts
    }

    fn add(
        &mut self,
        kind: Kind,
        name: &str,
        text: &str,
        destination: &str,
        timeout: Option<Duration>,
    ) -> Result<(), PartError> {
        let relative = format!("{}/{:03}.sh", self.site.folder, self.parts.len());
        let path = self.site.cwd.join(&relative);
        let written = private::write(&path, text.as_bytes());
        written.map_err(|source| PartError::Write { path, source })?;
        self.push(kind, name, relative, destination, timeout);
        Ok(())
    }

    fn push(&mut self, kind: Kind, name: &str, source: String, destination: &str, timeout: Option<Duration>) {
        let (name, destination) = (name.to_owned(), destination.to_owned());
        self.parts.push(Part { kind, name, check: false, source, destination, timeout });
    }
}

/// The parts' kinds, which is all that a template knows of them.
pub fn kinds(parts: &[Part]) -> Vec<Kind> {
    parts.iter().map(|part| part.kind).collect()
}

/// Sets the variables that [`PROVISIONERS`] reads: the parts, and how `username` runs a file as root.
pub fn declare(variables: &mut Variables, parts: &[Part], username: &str) {
    let values: Vec<Value> = parts
        .iter()
        .map(|part| {
            let timeout =
                part.timeout.map(|limit| format!("{}s", limit.as_secs().max(1))).unwrap_or_default();
            json!({ "source": part.source, "destination": part.destination, "timeout": timeout })
        })
        .collect();
    variables.set("parts", values);
    // Without a terminal nobody could give a password.
    let execute = if username == "root" { "sh {{.Path}}" } else { "sudo -n sh {{.Path}}" };
    variables.set_template("execute_command", execute);
}

/// Puts a file into the stage.
fn stage(how: &str, name: &str) -> String {
    let mode = if name == "script" { "755" } else { "600" };
    format!("mkdir -p {STAGE} && chmod 755 {STAGE} && {how} && chmod {mode} {STAGE}/{name} || exit 1\n")
}

/// The command with the task's environment, as a shell reads it from a file.
fn line(task: &Task, name: &str, command: &str) -> Result<String, PartError> {
    shell_line(&task.name, command, &task.surroundings(STAGE, name))
}

/// The command with this environment in one line.
///
/// # Errors
/// When a shell cannot have such a variable.
pub fn shell_line(name: &str, command: &str, environment: &Environment) -> Result<String, PartError> {
    let wrong = |source: SshError| PartError::Shell { name: name.to_owned(), source };
    ssh::shell_line(command, environment).map_err(wrong)
}

#[cfg(test)]
mod tests;
