//! A guest that a build uses: started from a disk with a key and a seed of its own, run in, and ended or kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::gate::{self, Gate};
use super::mirrors::Mirrors;
use super::prepare::{Prepared, Start, prepare};
use super::{Build, BuildError, said};
use crate::backends::qemu::Network;
use crate::backends::qemu::guest::{Guest, GuestError};
use crate::domain::{Environment, OnError};
use crate::process::{Finished, Limits, ProcessError, private};
use crate::provision::{self, RUN_SCRIPT, STAGE, StepFailure, Task, UPLOAD, Work};
use crate::ssh::{self, Exec, Input, KnownHost, Login, Session, SshError};

/// How long a guest may take to its login: emulated, with a busy host, minutes are usual.
pub(super) const BOOT: Duration = Duration::from_secs(15 * 60);

/// How many of a failed command's last lines are shown.
pub(super) const TAIL: usize = 20;

/// A guest with somebody logged in as root.
pub(super) struct Booted<'a> {
    build: &'a Build<'a>,
    dir: PathBuf,
    guest: Guest,
    /// None after a restart that failed.
    session: Option<Session>,
    login: Login,
    gate: Option<Gate>,
    /// The public key by which we got in.
    pub(super) public_key: String,
}

impl<'a> Booted<'a> {
    /// Boots and logs in.
    ///
    /// # Errors
    /// When the guest does not come up.
    pub(super) async fn start(build: &'a Build<'a>, start: Start<'_>) -> Result<Self, BuildError> {
        let Prepared { spec, emulator, key_file, public_key } = prepare(build, &start)?;
        let (dir, host) = (start.dir, build.host);
        let guest = Guest::start(&spec, &emulator, &dir, &host.runner, build.cancel).await;
        let mut guest = guest.map_err(guest_error("start the guest"))?;
        let known_host = KnownHost { path: dir.join("known_hosts"), alias: spec.name };
        let key = ssh::load(&key_file).map_err(ssh_error("read a key"))?;
        let login = Login { username: "root".to_owned(), key, known_host };
        let session = guest.connect(&login, &limits(build, BOOT)).await;
        let (session, error) = match session {
            Ok(session) => (Some(session), None),
            Err(error) => (None, Some(guest_error("reach the guest")(error))),
        };
        let mut booted = Self { build, dir, guest, session, login, gate: None, public_key };
        let ready = match error {
            None if build.qemu.network == Network::Mirror => booted.open_gate(start.mirrors).await,
            None => Ok(()),
            Some(error) => Err(error),
        };
        match ready {
            Ok(()) => Ok(booted),
            Err(error) => {
                said::show_console(build.log, &booted.dir, &error);
                Err(booted.give_up(error).await)
            }
        }
    }

    /// Runs one step.
    ///
    /// # Errors
    /// [`StepFailure`] when it fails, with its last lines.
    pub(super) async fn run(&mut self, task: &Task) -> Result<(), BuildError> {
        self.build.log.step(&format!("Provisioning step {}", task.name));
        if task.work == Work::Reboot { self.reboot(task).await } else { self.run_here(task).await }
    }

    /// Runs a command as root and returns how it ended.
    ///
    /// # Errors
    /// When the connection breaks or the time is over.
    pub(super) async fn exec(
        &self,
        command: &str,
        environment: &Environment,
        limit: Option<Duration>,
    ) -> Result<Finished, BuildError> {
        let limits = Limits { cancel: self.build.cancel.clone(), timeout: limit };
        let environment = &self.told(environment.clone());
        let exec = Exec { command, environment, input: Input::Empty };
        let ran = self.session()?.exec(&exec, Some(self.build.log), &limits);
        self.during(ran).await.map_err(guest_error("run a command in the guest"))
    }

    /// What a guest is asked for over the connection.
    async fn during<T>(&self, work: impl Future<Output = Result<T, SshError>>) -> Result<T, GuestError> {
        self.guest.during("the end of a command", self.build.cancel, work).await
    }

    /// What the guest reaches, where that is not all or nothing.
    pub(super) fn mirrors(&self) -> Option<Arc<Mirrors>> {
        self.gate.as_ref().map(|gate| Arc::clone(gate.mirrors()))
    }

    /// Waits until the guest has switched itself off, at most this long. Returns whether it has.
    ///
    /// # Errors
    /// When it cannot, for want of space.
    pub(super) async fn is_off_within(&self, deadline: Duration) -> Result<bool, BuildError> {
        tokio::select! {
            is_off = self.guest.is_off_within(deadline) => Ok(is_off),
            () = self.guest.disk_is_full() => {
                Err(guest_error("switch the guest off")(GuestError::DiskFull { dir: self.dir.clone() }))
            }
        }
    }

    /// Pulls the plug and removes the guest's folder, or keeps the guest when the build failed and the user wants
    /// to look at it.
    ///
    /// # Errors
    /// The build's own error, or that QEMU does not end.
    pub(super) async fn end(self, outcome: Result<(), BuildError>) -> Result<(), BuildError> {
        match outcome {
            Ok(()) => self.guest.kill().await.map_err(guest_error("stop the guest")),
            Err(error) => Err(self.give_up(error).await),
        }
    }

    /// Ends a failed build's guest or keeps it, and returns what is to be told.
    async fn give_up(self, error: BuildError) -> BuildError {
        if is_kept(self.build.spec.on_error, &error) {
            let login = self.login_command();
            return BuildError::Kept { source: Box::new(error), login };
        }
        // The first error is what matters.
        let _ = self.guest.kill().await;
        error
    }

    fn login_command(&self) -> String {
        let port = self.guest.ssh_port().unwrap_or_default();
        let file = |name: &str| ssh::quote(&self.dir.join(name).display().to_string());
        format!(
            "ssh -i {} -p {port} -o HostKeyAlias={} -o UserKnownHostsFile={} root@127.0.0.1",
            file("ssh_key"),
            self.login.known_host.alias,
            file("known_hosts"),
        )
    }

    async fn reboot(&mut self, task: &Task) -> Result<(), BuildError> {
        let limits = limits(self.build, task.timeout.unwrap_or(BOOT));
        let session = self.session.take().ok_or_else(no_session)?;
        let again = self.guest.reboot(session, &self.login, &limits).await;
        let again = again.map_err(guest_error(format!("restart the guest in step {}", task.name)));
        self.session = Some(again.inspect_err(|error| said::show_console(self.build.log, &self.dir, error))?);
        match self.mirrors() {
            Some(mirrors) => self.open_gate(Some(mirrors)).await,
            None => Ok(()),
        }
    }

    /// Lets the guest reach mirrors: these, or those that its own sources name.
    async fn open_gate(&mut self, mirrors: Option<Arc<Mirrors>>) -> Result<(), BuildError> {
        let session = self.session()?;
        let mirrors = match mirrors {
            Some(mirrors) => mirrors,
            None => gate::mirrors_of(self.build, session).await?,
        };
        self.gate = Some(Gate::open(session, mirrors).await?);
        Ok(())
    }

    /// With what a program in the guest has to know of the gate.
    fn told(&self, mut environment: Environment) -> Environment {
        if let Some(gate) = &self.gate {
            gate.tell(&mut environment);
        }
        environment
    }

    fn session(&self) -> Result<&Session, BuildError> {
        self.session.as_ref().ok_or_else(no_session)
    }

    async fn run_here(&self, task: &Task) -> Result<(), BuildError> {
        let limits = Limits { cancel: self.build.cancel.clone(), timeout: task.timeout };
        let (script, name) = match &task.work {
            Work::Upload { source, .. } => {
                let archive = self.dir.join("upload.tar");
                let Build { host, log, cancel, .. } = self.build;
                let name = provision::pack(&host.runner, source, &archive, log, cancel).await?;
                self.copy(Input::File(&archive), "upload.tar", 0o600, &limits).await?;
                fs::remove_file(&archive).map_err(BuildError::io("remove", &archive))?;
                (UPLOAD, name)
            }
            Work::Script(text) => {
                self.copy(Input::Bytes(text.as_bytes()), "script", 0o755, &limits).await?;
                (RUN_SCRIPT, String::new())
            }
            Work::Reboot => return Ok(()),
        };
        let environment = self.told(task.surroundings(STAGE, &name));
        let command = format!("chmod 755 {STAGE}\n{script}");
        let exec = Exec { command: &command, environment: &environment, input: Input::Empty };
        let ran = self.session()?.exec(&exec, Some(self.build.log), &limits);
        match self.during(ran).await {
            Ok(finished) if finished.code == 0 => Ok(()),
            Ok(finished) => Err(StepFailure::Code {
                name: task.name.clone(),
                code: finished.code,
                tail: finished.tail(TAIL),
            }
            .into()),
            Err(GuestError::Ssh(SshError::Timeout { limit })) => {
                Err(StepFailure::Timeout { name: task.name.clone(), limit, tail: self.build.log.tail(TAIL) }
                    .into())
            }
            Err(error) => Err(guest_error(format!("run step {}", task.name))(error)),
        }
    }

    async fn copy(
        &self,
        content: Input<'_>,
        name: &str,
        mode: u32,
        limits: &Limits,
    ) -> Result<(), BuildError> {
        let to = format!("{STAGE}/{name}");
        let copied = self.session()?.copy(content, &to, mode, limits);
        self.during(copied).await.map_err(guest_error("copy a file into the guest"))
    }
}

/// Whether a failed build's guest stays: not one that has ended or stands still by itself, nor one whose user wants nothing any
/// more.
fn is_kept(on_error: OnError, error: &BuildError) -> bool {
    let gone = matches!(
        error,
        BuildError::Guest { source: GuestError::Stopped { .. } | GuestError::Panicked { .. }, .. }
    );
    on_error == OnError::Keep && !gone && !matches!(error, BuildError::Cancelled)
}

fn no_session() -> BuildError {
    BuildError::Invalid("the guest did not come back from its restart".to_owned())
}

/// Makes a guest's folder.
///
/// # Errors
/// When it cannot be made.
pub(super) fn make_dir(dir: &Path) -> Result<(), BuildError> {
    private::create_dir(dir).map_err(BuildError::io("create", dir))
}

fn limits(build: &Build<'_>, timeout: Duration) -> Limits {
    Limits { cancel: build.cancel.clone(), timeout: Some(timeout) }
}

pub(super) fn ssh_error(operation: impl Into<String>) -> impl FnOnce(SshError) -> BuildError {
    move |error| guest_error(operation)(GuestError::Ssh(error))
}

/// For `map_err` on what a guest does: cancellation is told apart.
pub(super) fn guest_error(operation: impl Into<String>) -> impl FnOnce(GuestError) -> BuildError {
    move |source| match source {
        GuestError::Cancelled
        | GuestError::Ssh(SshError::Cancelled)
        | GuestError::Process(ProcessError::Cancelled { .. }) => BuildError::Cancelled,
        GuestError::DiskFull { dir } => BuildError::NoSpace {
            operation: format!("{}, whose disk is in {}", operation.into(), dir.display()),
        },
        source => BuildError::Guest { operation: operation.into(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_guests_are_kept() {
        let guest = |source| BuildError::Guest { operation: "reach the guest".into(), source };
        let console = String::new;
        let late = || guest(GuestError::NotUp { what: "login", limit: BOOT, console: console() });
        let stopped = guest(GuestError::Stopped { what: "login", console: console() });
        let panicked = guest(GuestError::Panicked { what: "login", console: console() });
        let refused = guest(GuestError::Ssh(SshError::Timeout { limit: BOOT }));
        for (on_error, error, kept) in [
            (OnError::Keep, late(), true),
            (OnError::Keep, refused, true),
            (OnError::Keep, BuildError::Invalid("x".into()), true),
            (OnError::Keep, stopped, false),
            (OnError::Keep, panicked, false),
            (OnError::Keep, BuildError::Cancelled, false),
            (OnError::Cleanup, late(), false),
        ] {
            assert_eq!(is_kept(on_error, &error), kept, "{error}");
        }
    }
}
