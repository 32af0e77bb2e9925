//! An image's steps as what Packer's provisioners are given: files of our own making, which a shell in the guest reads.
//!
//! The environment of a step stands in its file, quoted, and the file goes to a folder of the guest's memory: nothing
//! of it is in Packer's template, in a process list, or on the image's disk.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::super::booted::STAGE;
use super::super::guest_build::{AWAIT, PATIENCE};
use super::super::{Build, BuildError, upload};
use crate::backends::qemu::guest::GuestError;
use crate::domain::Environment;
use crate::process::private;
use crate::provision::{self, RUN_SCRIPT, Task, UPLOAD, Work};
use crate::ssh::{self, SshError};

/// How a part is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
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
pub(super) struct Part {
    /// How it is run.
    pub(super) kind: Kind,
    /// For the log; the same for all parts of a step.
    pub(super) name: String,
    /// Its file, relative to where Packer runs.
    pub(super) source: String,
    /// Where that goes in the guest.
    pub(super) destination: String,
    /// How long it may take.
    pub(super) timeout: Option<Duration>,
}

/// A folder in the guest's memory that only root can read.
const MEMORY: &str = "/run/sindri-build";
/// Makes that folder.
const PREPARE: &str = "mkdir -p -m 700 /run/sindri-build\n";
/// Restarts, and never returns: Packer takes the end of the connection for the end of this part.
const REBOOT: &str = "cat /proc/sys/kernel/random/boot_id >/var/tmp/sindri-boot-id && sync\n\
                      systemctl reboot || reboot\nsleep 600\nexit 1\n";
/// In the old system: waits for it to go, which fails this part, and it is tried again.
const RETURN: &str = "[ \"$(cat /proc/sys/kernel/random/boot_id)\" != \"$(cat /var/tmp/sindri-boot-id)\" ] || \
                      { sleep 600; exit 1; }\nrm -f /var/tmp/sindri-boot-id\nmkdir -p -m 700 /run/sindri-build\n";
/// Writes the parts' files.
pub(super) struct Writer<'a> {
    /// The build.
    pub(super) build: &'a Build<'a>,
    /// Where Packer runs.
    pub(super) cwd: &'a Path,
    /// The files' folder, relative to that; made.
    pub(super) folder: &'a str,
    /// How long a restart may take.
    pub(super) boot: Duration,
    parts: Vec<Part>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(build: &'a Build<'a>, cwd: &'a Path, folder: &'a str, boot: Duration) -> Self {
        Self { build, cwd, folder, boot, parts: Vec::new() }
    }

    /// All that is done in the guest, in order, but for switching it off.
    ///
    /// # Errors
    /// When a file cannot be written, or what is uploaded cannot be read.
    pub(super) async fn write(mut self, seeded: bool, quiet: &str) -> Result<Vec<Part>, BuildError> {
        self.add(Kind::Script, "prepare the guest", PREPARE, "/tmp/sindri-prepare", None)?;
        if seeded {
            self.script("wait for cloud-init", AWAIT, Some(PATIENCE))?;
        }
        for task in provision::tasks(self.build.spec) {
            self.task(&task).await?;
        }
        let cleanups = provision::cleanup(self.build.spec.security);
        if !cleanups.is_empty() {
            self.script("quiet the guest", quiet, Some(PATIENCE))?;
        }
        for cleanup in cleanups {
            self.task(&cleanup.task()).await?;
        }
        Ok(self.parts)
    }

    async fn task(&mut self, task: &Task) -> Result<(), BuildError> {
        match &task.work {
            Work::Script(text) => {
                let stage = stage(&format!("printf %s {} >{STAGE}/script", ssh::quote(text)), "script");
                self.script(&task.name, &format!("{stage}{}", line(task, "", RUN_SCRIPT)?), task.timeout)
            }
            Work::Upload { source, .. } => {
                let relative = format!("{}/{:03}.tar", self.folder, self.parts.len());
                let Build { host, log, cancel, .. } = self.build;
                let name = upload::pack(host, source, &self.cwd.join(&relative), log, cancel).await?;
                let there = format!("/var/tmp/sindri-upload-{}.tar", self.parts.len());
                self.push(Kind::Upload, &task.name, relative, &there, None);
                let stage = stage(&format!("mv {there} {STAGE}/upload.tar"), "upload.tar");
                self.script(&task.name, &format!("{stage}{}", line(task, &name, UPLOAD)?), task.timeout)
            }
            Work::Reboot => {
                self.add(Kind::Reboot, &task.name, REBOOT, "", None)?;
                let limit = task.timeout.unwrap_or(self.boot);
                // Of each of Packer's tries, of which the first ends with the old system.
                self.add(Kind::Return, &task.name, RETURN, "", Some(limit / 3))
            }
        }
    }

    fn script(&mut self, name: &str, text: &str, timeout: Option<Duration>) -> Result<(), BuildError> {
        let kind = if timeout.is_some() { Kind::Limited } else { Kind::Script };
        self.add(kind, name, text, &format!("{MEMORY}/part"), timeout)
    }

    fn add(
        &mut self,
        kind: Kind,
        name: &str,
        text: &str,
        destination: &str,
        timeout: Option<Duration>,
    ) -> Result<(), BuildError> {
        let relative = format!("{}/{:03}.sh", self.folder, self.parts.len());
        let path = self.cwd.join(&relative);
        private::write(&path, text.as_bytes()).map_err(BuildError::io("write", &path))?;
        self.push(kind, name, relative, destination, timeout);
        Ok(())
    }

    fn push(&mut self, kind: Kind, name: &str, source: String, destination: &str, timeout: Option<Duration>) {
        let (name, destination) = (name.to_owned(), destination.to_owned());
        self.parts.push(Part { kind, name, source, destination, timeout });
    }
}

/// Puts a file into the stage.
fn stage(how: &str, name: &str) -> String {
    let mode = if name == "script" { "755" } else { "600" };
    format!("mkdir -p {STAGE} && chmod 755 {STAGE} && {how} && chmod {mode} {STAGE}/{name} || exit 1\n")
}

/// The command with the task's environment, as a shell reads it from a file.
fn line(task: &Task, name: &str, command: &str) -> Result<String, BuildError> {
    shell_line(&task.name, command, &task.surroundings(STAGE, name))
}

/// The command with this environment in one line.
///
/// # Errors
/// When a shell cannot have such a variable.
pub(super) fn shell_line(name: &str, command: &str, environment: &Environment) -> Result<String, BuildError> {
    let wrong = |error: SshError| BuildError::Guest {
        operation: format!("prepare step {name}"),
        source: GuestError::Ssh(error),
    };
    ssh::shell_line(command, environment).map_err(wrong)
}

#[cfg(test)]
mod tests;
