//! Runs guests under QEMU: starts one, waits for its SSH server, runs commands in it, ends it.
//!
//! For builds, for checks and for the machines of `vm`. Knows nothing of images, state or resources.

mod admission;
mod argv;
pub mod console;
mod error;
mod launch;
mod ports;
mod process;
pub mod qmp;
mod restart;
pub mod seed;
mod spec;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use error::GuestError;
pub use ports::{check_ports, choose, is_refused};
pub use process::kill;
pub use seed::Seed;
pub use spec::{Disk, DiskAccess, Forward, GuestSpec, Lifetime, Protocol};

use self::launch::Supervised;
use self::qmp::Qmp;
use super::host::Emulator;
use crate::process::{Command, Limits, Runner};
use crate::ssh::{self, Login, Session, SshError};

/// How long QEMU may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How often we look whether a full disk has stopped a guest.
const LOOK: Duration = Duration::from_secs(5);
/// How long a guest may take to its end once its connections broke: a system that switches itself off ends those first.
const GOING_DOWN: Duration = Duration::from_secs(60);
/// How often a guest is asked again to switch itself off: early in its boot it does not listen.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// A guest that runs. When it lives with the provider, dropping it ends it.
#[derive(Debug)]
pub struct Guest {
    id: Uuid,
    dir: PathBuf,
    forwards: Vec<Forward>,
    supervised: Option<Supervised>,
    recipe: Option<Recipe>,
    /// Where in its file the console of this start begins.
    console_from: u64,
}

/// What a guest is started with once more.
#[derive(Debug)]
struct Recipe {
    spec: GuestSpec,
    emulator: Emulator,
    runner: Runner,
    cancel: CancellationToken,
}

/// The command that runs a guest in its folder, for somebody else to start there; what must be in the folder before
/// that is made. A forward without a host port is left out: choose ports first.
///
/// # Errors
/// When there is no firmware, or a file cannot be made.
pub fn command_line(spec: &GuestSpec, emulator: &Emulator, dir: &Path) -> Result<Command, GuestError> {
    let firmware = launch::prepare(emulator, dir)?;
    Ok(argv::command(spec, emulator, firmware, dir))
}

/// The command that would run a guest, to be looked at: nothing is made.
///
/// # Errors
/// When there is no firmware.
pub fn preview(spec: &GuestSpec, emulator: &Emulator, dir: &Path) -> Result<Command, GuestError> {
    let firmware = emulator.firmware.as_ref().ok_or(GuestError::NoFirmware)?;
    Ok(argv::command(spec, emulator, firmware, dir))
}

impl Recipe {
    async fn launch(&self, dir: &Path) -> Result<(Vec<Forward>, Option<Supervised>), GuestError> {
        launch::launch(&self.spec, &self.emulator, dir, &self.runner, &self.cancel).await
    }
}

impl Guest {
    /// Starts a guest in its folder, which holds its disks and belongs to it alone, and returns as soon as the
    /// machine runs. Ports that the specification leaves open are chosen. Cancelling `cancel` ends the guest
    /// (a daemon: only its start).
    ///
    /// # Errors
    /// When QEMU refuses: [`GuestError::PortInUse`] tells a taken port apart.
    pub async fn start(
        spec: &GuestSpec,
        emulator: &Emulator,
        dir: &Path,
        runner: &Runner,
        cancel: &CancellationToken,
    ) -> Result<Self, GuestError> {
        let (spec, emulator) = (spec.clone(), emulator.clone());
        let recipe = Recipe { spec, emulator, runner: runner.clone(), cancel: cancel.clone() };
        let console_from = console::size(dir);
        let (forwards, supervised) = recipe.launch(dir).await?;
        let (id, dir) = (recipe.spec.id, dir.to_owned());
        Ok(Self { id, dir, forwards, supervised, recipe: Some(recipe), console_from })
    }

    /// A daemon that was started before, if it still runs: QEMU itself says that it is this guest, or, when
    /// it is too busy to answer, its process does. `forwards` are those it was started with. Keeps its console's
    /// file bounded, too, and lets it go on where a full disk had stopped it.
    pub async fn find(id: Uuid, dir: &Path, forwards: &[Forward]) -> Option<Self> {
        let _ = console::bound(dir);
        let guest = Self {
            id,
            dir: dir.to_owned(),
            forwards: forwards.to_vec(),
            supervised: None,
            recipe: None,
            console_from: console::size(dir),
        };
        let runs = match Qmp::connect(dir, ANSWER).await {
            Ok(mut qmp) => {
                let runs = match qmp.uuid().await {
                    Ok(uuid) => uuid == id,
                    // Too busy to answer is not gone.
                    Err(_) => process::is_running(dir, id),
                };
                if runs && qmp.status().await.is_ok_and(|status| status == qmp::IO_ERROR) {
                    tracing::warn!(guest = %id, "the guest was stopped when this computer's disk was full; it goes on");
                    let _ = qmp.go_on().await;
                }
                runs
            }
            Err(_) => process::is_running(dir, id),
        };
        runs.then_some(guest)
    }

    /// The forwards with their ports.
    pub fn forwards(&self) -> &[Forward] {
        &self.forwards
    }

    /// The host's port that leads to the guest's SSH server.
    pub fn ssh_port(&self) -> Option<u16> {
        self.forwards.iter().find(|it| it.protocol == Protocol::Tcp && it.guest == 22)?.host
    }

    /// Waits until the SSH server speaks.
    ///
    /// # Errors
    /// When the guest stops, its kernel panics, or the time is over, with the end of its console.
    pub async fn wait_ssh(&mut self, limits: &Limits) -> Result<TcpStream, GuestError> {
        const WHAT: &str = "answer from its SSH server";
        let mut starts = 1;
        loop {
            let Some(port) = self.ssh_port() else { return Err(self.not_up(WHAT, Duration::ZERO)) };
            let banner = async { Ok(ssh::wait_for_banner("127.0.0.1", port).await) };
            match self.bounded(WHAT, limits, banner).await {
                Err(error) => self.start_over(error, &mut starts).await?,
                stream => return stream,
            }
        }
    }

    /// Waits until somebody can log in, and does.
    ///
    /// # Errors
    /// When the guest stops, its kernel panics, the time is over, the key is refused to the end, or the server is a stranger.
    pub async fn connect(&mut self, login: &Login, limits: &Limits) -> Result<Session, GuestError> {
        let mut starts = 1;
        loop {
            let mut last = None;
            let connected = self.bounded("login over SSH", limits, self.log_in(login, &mut last)).await;
            match (connected, last) {
                (Err(GuestError::NotUp { .. }), Some(reason)) => return Err(GuestError::Ssh(reason)),
                (Err(error), _) => self.start_over(error, &mut starts).await?,
                (session, _) => return session,
            }
        }
    }

    async fn log_in(&self, login: &Login, last: &mut Option<SshError>) -> Result<Session, GuestError> {
        let Some(port) = self.ssh_port() else { return Err(self.not_up("SSH port", Duration::ZERO)) };
        Ok(ssh::log_in("127.0.0.1", port, login, last).await?)
    }

    /// Does something over a connection to the guest, while that can answer: one that was stopped for want of space answers
    /// nobody, nor does one whose kernel panicked, and of one that has ended there is more to tell than that the connection
    /// broke. `what` is what is waited for.
    ///
    /// # Errors
    /// The work's own; [`GuestError::Stopped`] and [`GuestError::Panicked`] with the end of the console;
    /// [`GuestError::DiskFull`].
    pub async fn during<T>(
        &self,
        what: &'static str,
        cancel: &CancellationToken,
        work: impl Future<Output = Result<T, SshError>>,
    ) -> Result<T, GuestError> {
        let lost = tokio::select! {
            biased;
            done = work => match done {
                Err(error @ SshError::Lost(_)) => Some(error),
                done => return Ok(done?),
            },
            () = self.ended() => None,
            () = self.panicked() => return Err(GuestError::Panicked { what, console: self.last_words() }),
            () = self.disk_is_full() => return Err(GuestError::DiskFull { dir: self.dir.clone() }),
        };
        if let Some(error) = lost {
            let has_ended = tokio::select! {
                has_ended = self.is_off_within(GOING_DOWN) => has_ended,
                () = cancel.cancelled() => false,
            };
            if !has_ended && !cancel.is_cancelled() {
                return Err(error.into());
            }
        }
        if cancel.is_cancelled() {
            return Err(GuestError::Cancelled);
        }
        Err(GuestError::Stopped { what, console: self.last_words() })
    }

    /// Waits until the guest has switched itself off, at most this long. Returns whether it has.
    pub async fn is_off_within(&self, deadline: Duration) -> bool {
        tokio::time::timeout(deadline, self.ended()).await.is_ok()
    }

    /// Presses the power button and waits for the end, at most this long; then pulls the plug.
    ///
    /// # Errors
    /// When QEMU does not end even so.
    pub async fn shutdown(self, deadline: Duration) -> Result<(), GuestError> {
        let ask = async {
            loop {
                if let Ok(mut qmp) = Qmp::connect(&self.dir, ANSWER).await {
                    let _ = qmp.power_button().await;
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        tokio::select! {
            () = self.ended() => {}
            () = ask => {}
            () = tokio::time::sleep(deadline) => {}
        }
        self.kill().await
    }

    /// Pulls the plug.
    ///
    /// # Errors
    /// When QEMU does not end.
    pub async fn kill(mut self) -> Result<(), GuestError> {
        self.pull_the_plug().await
    }

    async fn pull_the_plug(&mut self) -> Result<(), GuestError> {
        if let Some(supervised) = self.supervised.take() {
            let ended = supervised.ended.clone();
            drop(supervised);
            ended.cancelled().await;
            return Ok(());
        }
        if let Ok(mut qmp) = Qmp::connect(&self.dir, ANSWER).await
            && qmp.uuid().await.is_ok_and(|uuid| uuid == self.id)
            && qmp.quit().await.is_ok()
        {
            let _ = process::wait_gone(&self.dir, self.id, ANSWER).await;
        }
        process::kill(&self.dir, self.id).await
    }

    /// Returns when QEMU has ended. Keeps the console's file bounded meanwhile.
    async fn ended(&self) {
        loop {
            let _ = console::bound(&self.dir);
            match &self.supervised {
                Some(supervised) => tokio::select! {
                    () = supervised.ended.cancelled() => return,
                    () = tokio::time::sleep(console::LOOK) => {}
                },
                None => match process::wait_gone(&self.dir, self.id, console::LOOK).await {
                    Ok(()) => return,
                    Err(_still_there) => {}
                },
            }
        }
    }

    /// Returns when the guest's kernel has given up. It stands still then, and costs a processor's time.
    async fn panicked(&self) {
        while !console::tells_of_panic(&self.dir, self.console_from) {
            tokio::time::sleep(console::LOOK).await;
        }
    }

    /// Returns when QEMU has stopped the machine because this computer's disk is full.
    pub async fn disk_is_full(&self) {
        disk_is_full(&self.dir).await;
    }

    async fn bounded<T>(
        &self,
        what: &'static str,
        limits: &Limits,
        work: impl Future<Output = Result<T, GuestError>>,
    ) -> Result<T, GuestError> {
        let limit = limits.timeout.unwrap_or(Duration::MAX);
        tokio::select! {
            result = work => result,
            () = limits.cancel.cancelled() => Err(GuestError::Cancelled),
            () = self.ended() => Err(GuestError::Stopped { what, console: self.last_words() }),
            () = self.panicked() => Err(GuestError::Panicked { what, console: self.last_words() }),
            () = self.disk_is_full() => Err(GuestError::DiskFull { dir: self.dir.clone() }),
            () = tokio::time::sleep(limit) => Err(self.not_up(what, limit)),
        }
    }

    fn not_up(&self, what: &'static str, limit: Duration) -> GuestError {
        GuestError::NotUp { what, limit, console: console::tail(&self.dir) }
    }

    /// What the guest printed last, and QEMU itself.
    fn last_words(&self) -> String {
        let qemu = self.supervised.as_ref().map_or("", Supervised::output).trim();
        format!("{}\n{qemu}", console::tail(&self.dir)).trim().to_owned()
    }
}

/// Returns when the guest of this folder is stopped because this computer's disk is full, whoever has started it.
pub async fn disk_is_full(dir: &Path) {
    loop {
        tokio::time::sleep(LOOK).await;
        if let Ok(mut qmp) = Qmp::connect(dir, ANSWER).await
            && qmp.status().await.is_ok_and(|status| status == qmp::IO_ERROR)
        {
            return;
        }
    }
}
