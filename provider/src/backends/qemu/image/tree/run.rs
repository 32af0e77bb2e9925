//! Runs a step in a tree.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Tree;
use crate::backends::qemu::image::mirrors::{self, Mirrors, Reached};
use crate::backends::qemu::image::{BuildError, said};
use crate::domain::Environment;
use crate::process::enter::{self, Door, ENV_PREFIX};
use crate::process::{Command, Limits, ProcessError, full_disk, tail};
use crate::provision::{self, RUN_SCRIPT, StepFailure, Task, UPLOAD, Work};

/// A step's [`Door`], in the build's folder.
const DOOR: &str = "door";

/// How many of a failed step's last lines are shown.
const TAIL: usize = 20;

impl Tree<'_> {
    /// Runs one step.
    ///
    /// # Errors
    /// [`StepFailure`] when it fails, with its last lines.
    pub(in crate::backends::qemu::image) async fn run(&self, task: &Task) -> Result<(), BuildError> {
        self.log.step(&format!("Provisioning step {}", task.name));
        let (script, name) = match &task.work {
            Work::Script(text) => {
                self.stage("script", text)?;
                (RUN_SCRIPT, String::new())
            }
            Work::Upload { source, .. } => (UPLOAD, self.stage_upload(source).await?),
            Work::Reboot => {
                let why = "a `reboot` step needs a booted guest: set `boot = true`";
                return Err(BuildError::Invalid(why.to_owned()));
            }
        };
        self.in_tree(task, script, &name).await
    }

    async fn in_tree(&self, task: &Task, script: &str, name: &str) -> Result<(), BuildError> {
        let status = format!("{}/status", self.folder);
        let status_file = self.area.host(&status);
        let _ = fs::remove_file(&status_file);
        let script = self.login.before(script);
        if !self.login.is_empty() {
            self.stage("apt.conf", &self.login.settings())?;
        }
        let mut entry = self.entry("/bin/sh", vec!["-euc".to_owned(), script], true);
        entry.status = Some(PathBuf::from(status));
        let door = self.door()?;
        let mut environment = task.environment.clone();
        entry.network = match &self.reached {
            Reached::All => enter::Network::Host,
            Reached::Nothing => enter::Network::Nothing,
            Reached::Mirrors(_) => {
                mirrors::tell(&mut environment, enter::PORT);
                enter::Network::Served(PathBuf::from(format!("{}/{DOOR}", self.folder)))
            }
        };
        let command = self.login.given(self.area.command(self.host, &entry), "/run/sindri/apt.conf");
        let mut command = with_environment(command, &environment);
        for (name, value) in task.instructions("/run/sindri", name) {
            command = command.env(format!("{ENV_PREFIX}{name}"), value);
        }
        let limits = Limits { cancel: self.cancel.clone(), timeout: task.timeout };
        let finished = tokio::select! {
            finished = self.host.runner.run(&command, Some(&self.log), &limits) => finished,
            never = self.serve(door) => match never {},
        };
        let finished = match finished {
            Ok(finished) => finished,
            Err(ProcessError::Timeout { limit, .. }) => {
                let (name, tail) = (task.name.clone(), self.log.tail(TAIL));
                return Err(StepFailure::Timeout { name, limit, tail }.into());
            }
            Err(error) => return Err(BuildError::tool(format!("run step {}", task.name))(error)),
        };
        // Not every way into the namespaces hands the exit code through; without the file none was reached.
        let Some(code) = exit_code(&status_file) else {
            let refused = said::refused(&finished.output);
            return Err(refused.unwrap_or_else(|| self.failed(&task.name, finished.code, &finished.output)));
        };
        if code == 0 { Ok(()) } else { Err(self.failed(&task.name, code, &finished.output)) }
    }

    /// Why a step failed: where the disk with the tree is full, that is no fault of the step.
    fn failed(&self, name: &str, code: i32, output: &str) -> BuildError {
        let folder = self.area.host(&self.folder);
        if full_disk(output, &[&folder]).is_some() {
            return BuildError::NoSpace { operation: format!("run step {name} in {}", folder.display()) };
        }
        step_error(name, code, output)
    }

    /// Where a step's listener will come from, if it reaches mirrors.
    fn door(&self) -> Result<Option<(Door, Arc<Mirrors>)>, BuildError> {
        let Reached::Mirrors(mirrors) = &self.reached else { return Ok(None) };
        let folder = self.area.host(&self.folder);
        let door = Door::open(&folder, DOOR).map_err(BuildError::io("make a socket in", &folder))?;
        Ok(Some((door, Arc::clone(mirrors))))
    }

    /// Serves a step's listener until the step is over.
    async fn serve(&self, door: Option<(Door, Arc<Mirrors>)>) -> std::convert::Infallible {
        if let Some((door, mirrors)) = door {
            match door.listener().await {
                Ok(listener) => mirrors.serve_at(listener).await,
                Err(error) => self.log.line(&format!("The step reaches no mirror: {error}")),
            }
        }
        std::future::pending().await
    }

    async fn stage_upload(&self, source: &Path) -> Result<String, BuildError> {
        let archive = self.area.host(&format!("{}/stage/upload.tar", self.folder));
        let name = provision::pack(&self.host.runner, source, &archive, &self.log, self.cancel).await?;
        // The folder above the area keeps others out.
        fs::set_permissions(&archive, Permissions::from_mode(0o644))
            .map_err(BuildError::io("open up", &archive))?;
        Ok(name)
    }
}

fn with_environment(mut command: Command, environment: &Environment) -> Command {
    for (name, value) in &environment.plain {
        command = command.env(format!("{ENV_PREFIX}{name}"), value);
    }
    for (name, value) in &environment.secret {
        command = command.env(format!("{ENV_PREFIX}{name}"), value.expose());
    }
    command
}

/// As process 1 wrote it; a step can get at the file through it.
fn exit_code(status: &Path) -> Option<i32> {
    let mut text = String::new();
    File::open(status).ok()?.take(16).read_to_string(&mut text).ok()?;
    text.parse().ok()
}

fn step_error(name: &str, code: i32, output: &str) -> BuildError {
    let tail = tail::last(output.lines().filter(|line| !noise(line)), TAIL);
    StepFailure::Code { name: name.to_owned(), code, tail }.into()
}

/// What the way into the namespaces says after a program that failed.
fn noise(line: &str) -> bool {
    line.starts_with("E: system failed: ") || line == "E: unshared command failed"
}
