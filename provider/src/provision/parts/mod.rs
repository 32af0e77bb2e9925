//! An image's steps as what Packer's provisioners are given: files of our own making, which a shell in the guest reads.
//!
//! The environment of a step stands in its file, quoted, and the file goes to a folder of the guest's memory: nothing
//! of it is in Packer's template, in a process list, or on the image's disk. Whoever logs in owns that folder; root
//! reads it.
//!
//! First there is a list ([`Drafts`]), for whoever only wants to see it; then its files, for whoever builds.

mod files;
mod preview;
mod run;

pub use files::{Site, write};
pub use preview::{Chosen, Handed, KEY, Preview, PreviewError, Tools};
pub use run::{Failure, run};

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::{QUIET, RUN_SCRIPT, STAGE, Task, UPLOAD, UploadError, Work, upload};
use crate::domain::{Check, Environment, ImageSpec, Origin, Security};
use crate::packer::Variables;
use crate::process::Secret;
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
    /// What of the image it is there for.
    pub of: Origin,
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

/// What a part's file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// This, which may have secrets in it.
    Text(Secret),
    /// An archive of this file or folder.
    Archive(PathBuf),
}

/// A part whose file is not written yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The part.
    pub part: Part,
    /// What its file is to hold.
    pub content: Content,
}

/// The parts, in the order in which they are run. Writes nothing.
#[derive(Debug)]
pub struct Drafts {
    /// The files' folder, relative to where Packer runs.
    folder: &'static str,
    /// How long a restart may take.
    boot: Duration,
    all: Vec<Draft>,
}

impl Drafts {
    /// Begins, with what all other parts need.
    pub fn begin(folder: &'static str, boot: Duration) -> Self {
        let mut drafts = Self { folder, boot, all: Vec::new() };
        drafts.add(Kind::Script, Origin::Sindri, "prepare the guest", PREPARE, "/tmp/sindri-prepare", None);
        drafts
    }

    /// The image's steps.
    ///
    /// # Errors
    /// When a shell cannot have a variable of one, or what is uploaded is not there.
    pub fn steps(&mut self, spec: &ImageSpec) -> Result<(), PartError> {
        let tasks = super::tasks(spec);
        tasks.iter().enumerate().try_for_each(|(index, task)| self.task(Origin::Step(index), task))
    }

    /// The image's clean-up, before which the guest is quietened.
    ///
    /// # Errors
    /// Those of [`Drafts::steps`].
    pub fn cleanup(&mut self, security: Security, patience: Duration) -> Result<(), PartError> {
        let tasks = super::cleanup(security);
        if !tasks.is_empty() {
            self.script("quiet the guest", QUIET, Some(patience));
        }
        tasks.iter().try_for_each(|task| self.task(Origin::Cleanup, task))
    }

    fn task(&mut self, of: Origin, task: &Task) -> Result<(), PartError> {
        match &task.work {
            Work::Script(text) => {
                let stage = stage(&format!("printf %s {} >{STAGE}/script", ssh::quote(text)), "script");
                let text = format!("{stage}{}", line(task, "", RUN_SCRIPT)?);
                self.run(of, &task.name, &text, task.timeout);
            }
            Work::Upload { source, .. } => {
                let there = format!("{INCOMING}/{}.tar", self.all.len());
                let name = upload::archived_name(source)?;
                self.push(Kind::Upload, of, &task.name, Content::Archive(source.clone()), &there, None);
                let how = format!("mv {there} {STAGE}/upload.tar && chown root: {STAGE}/upload.tar");
                let stage = stage(&how, "upload.tar");
                let text = format!("{stage}{}", line(task, &name, UPLOAD)?);
                self.run(of, &task.name, &text, task.timeout);
            }
            Work::Reboot => {
                self.add(Kind::Reboot, of, &task.name, REBOOT, "", None);
                let limit = task.timeout.unwrap_or(self.boot);
                // Of each of Packer's tries, of which the first ends with the old system.
                let back = format!("{RETURN}{PREPARE}");
                self.add(Kind::Return, of, &task.name, &back, "", Some(limit / 3));
            }
        }
        Ok(())
    }

    /// A check of the image.
    ///
    /// # Errors
    /// Those of [`Drafts::steps`].
    pub fn check(&mut self, check: &Check, timeout: Duration) -> Result<(), PartError> {
        let work = Work::Script(format!("#!/bin/sh\n{}\n", check.command));
        let (environment, timeout) = (Environment::default(), Some(timeout));
        self.task(Origin::Check, &Task { name: check.name.clone(), work, environment, user: None, timeout })
    }

    /// A script of our own, run as root.
    pub fn script(&mut self, name: &str, text: &str, timeout: Option<Duration>) {
        self.run(Origin::Sindri, name, text, timeout);
    }

    /// All that is to be done.
    pub fn finish(self) -> Vec<Draft> {
        self.all
    }

    fn run(&mut self, of: Origin, name: &str, text: &str, timeout: Option<Duration>) {
        let kind = if timeout.is_some() { Kind::Limited } else { Kind::Script };
        self.add(kind, of, name, text, &format!("{MEMORY}/part"), timeout);
    }

    fn add(
        &mut self,
        kind: Kind,
        of: Origin,
        name: &str,
        text: &str,
        destination: &str,
        timeout: Option<Duration>,
    ) {
        self.push(kind, of, name, Content::Text(Secret::new(text)), destination, timeout);
    }

    fn push(
        &mut self,
        kind: Kind,
        of: Origin,
        name: &str,
        content: Content,
        destination: &str,
        timeout: Option<Duration>,
    ) {
        let ending = if kind == Kind::Upload { "tar" } else { "sh" };
        let source = format!("{}/{:03}.{ending}", self.folder, self.all.len());
        let (name, destination) = (name.to_owned(), destination.to_owned());
        self.all.push(Draft { part: Part { kind, name, of, source, destination, timeout }, content });
    }
}

/// The parts of drafts.
pub fn parts(drafts: &[Draft]) -> Vec<Part> {
    drafts.iter().map(|draft| draft.part.clone()).collect()
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
