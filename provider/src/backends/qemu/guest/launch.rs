//! Starts a guest's QEMU, supervised or in the background, and says why it would not.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio_util::sync::{CancellationToken, DropGuard};

use super::qmp::Qmp;
use super::spec::{Forward, GuestSpec, Lifetime};
use super::{GuestError, argv, console, ports};
use crate::backends::qemu::host::{Emulator, Firmware};
use crate::process::private;
use crate::process::{Command, Detached, Finished, Limits, ProcessError, Runner, says_no_space};

/// How often another port is tried when somebody took the one that we had chosen.
const TRIES: usize = 5;
/// How long QEMU may take until the machine runs: a moment, on a busy computer many.
const START: Duration = Duration::from_secs(120);
/// What is said when it takes longer.
const LATE: &str = "it did not complete the machine in time";
/// How often we look whether it does.
const TICK: Duration = Duration::from_millis(5);
/// How long a QEMU that was killed may hold the guest's files still: the kernel gives back its memory first.
const RELEASE: Duration = Duration::from_secs(10);
/// The pause before it is tried again.
const HELD: Duration = Duration::from_millis(200);

/// A supervised QEMU. Dropping it ends QEMU.
#[derive(Debug)]
pub(super) struct Supervised {
    /// Cancelled when QEMU has ended, for whatever reason.
    pub(super) ended: CancellationToken,
    outcome: Arc<OnceLock<String>>,
    _alive: DropGuard,
}

/// Starts the guest in its folder and returns the forwards with their ports, and the supervised process unless
/// it is a daemon.
pub(super) async fn launch(
    spec: &GuestSpec,
    emulator: &Emulator,
    dir: &Path,
    runner: &Runner,
    cancel: &CancellationToken,
) -> Result<(Vec<Forward>, Option<Supervised>), GuestError> {
    let firmware = prepare(emulator, dir)?;
    ports::check_ports(&spec.forwards)?;
    let (mut tries, begun) = (1, Instant::now());
    loop {
        let forwards =
            ports::choose(&spec.forwards).map_err(GuestError::file("find a free port for", dir))?;
        let chosen = GuestSpec { forwards, ..spec.clone() };
        let command = argv::command(&chosen, emulator, firmware, dir);
        let started = match spec.lifetime {
            Lifetime::WithProvider => supervise(command, dir, runner, cancel).await.map(Some),
            Lifetime::Daemon => detach(&command, dir, cancel).await.map(|()| None),
        };
        match started {
            Ok(supervised) => return Ok((chosen.forwards, supervised)),
            Err(GuestError::PortInUse { protocol, port })
                if tries < TRIES
                    && !spec.forwards.iter().any(|it| it.protocol == protocol && it.host == Some(port)) =>
            {
                tries += 1;
            }
            Err(GuestError::Refused { output }) if is_held(&output) && begun.elapsed() < RELEASE => {
                tokio::time::sleep(HELD).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// What must be in the folder before QEMU starts.
pub(super) fn prepare<'a>(emulator: &'a Emulator, dir: &Path) -> Result<&'a Firmware, GuestError> {
    console::create(dir).map_err(GuestError::file("create", &console::path(dir)))?;
    let firmware = emulator.firmware.as_ref().ok_or(GuestError::NoFirmware)?;
    let vars = dir.join(argv::VARS);
    if !vars.exists() {
        private::copy(&firmware.vars, &vars).map_err(GuestError::file("create", &vars))?;
    }
    Ok(firmware)
}

async fn supervise(
    command: Command,
    dir: &Path,
    runner: &Runner,
    cancel: &CancellationToken,
) -> Result<Supervised, GuestError> {
    let (alive, ended) = (cancel.child_token(), CancellationToken::new());
    let outcome = Arc::new(OnceLock::new());
    let limits = Limits::cancelled_by(&alive);
    let task = {
        let (runner, ended, outcome) = (runner.clone(), ended.clone(), Arc::clone(&outcome));
        async move {
            let result = runner.run(&command, None, &limits).await;
            let _ = outcome.set(match &result {
                Ok(finished) => finished.output.clone(),
                Err(error) => error.to_string(),
            });
            ended.cancel();
            result
        }
    };
    let task = tokio::spawn(task);
    let supervised = Supervised { ended, outcome, _alive: alive.drop_guard() };
    tokio::select! {
        result = task => match result {
            Ok(Ok(finished)) => Err(refusal(&finished, dir)),
            Ok(Err(ProcessError::Cancelled { .. })) | Err(_) => Err(GuestError::Cancelled),
            Ok(Err(error)) => Err(error.into()),
        },
        () = answer(dir) => Ok(supervised),
        () = tokio::time::sleep(START) => Err(GuestError::Refused { output: LATE.to_owned() }),
    }
}

impl Supervised {
    /// What QEMU printed, once it has ended.
    pub(super) fn output(&self) -> &str {
        self.outcome.get().map_or("", String::as_str)
    }
}

async fn detach(command: &Command, dir: &Path, cancel: &CancellationToken) -> Result<(), GuestError> {
    let mut qemu = Detached::start(command)?;
    let started = tokio::select! {
        result = qemu.wait() => return Err(refusal(&result?, dir)),
        () = answer(dir) => Ok(()),
        () = cancel.cancelled() => Err(GuestError::Cancelled),
        () = tokio::time::sleep(START) => Err(GuestError::Refused { output: LATE.to_owned() }),
    };
    if started.is_err() {
        qemu.kill().await;
    }
    started
}

/// Returns when the control socket answers: the machine is complete then.
async fn answer(dir: &Path) {
    while Qmp::connect(dir, START).await.is_err() {
        tokio::time::sleep(TICK).await;
    }
}

/// Whether QEMU says that another process has one of the guest's files: its PID file, or a disk.
fn is_held(output: &str) -> bool {
    output.contains("lock pid file") || output.contains("Is another process using the image")
}

fn refusal(finished: &Finished, dir: &Path) -> GuestError {
    let output = finished.output.trim();
    match ports::refused(output) {
        Some((protocol, port)) => GuestError::PortInUse { protocol, port },
        None if says_no_space(output) => GuestError::DiskFull { dir: dir.to_owned() },
        None if output.is_empty() => {
            GuestError::Refused { output: format!("it ended with code {} and without a word", finished.code) }
        }
        None => GuestError::Refused { output: output.to_owned() },
    }
}
