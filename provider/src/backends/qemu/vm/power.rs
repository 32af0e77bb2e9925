//! Starts and stops a machine.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::create::free_port;
use super::files::{DISK, Folder, SEED};
use super::status::forwards;
use super::{Record, VmError};
use crate::backends::qemu::guest::{Disk, DiskAccess, Guest, GuestError, GuestSpec, Lifetime};
use crate::backends::qemu::host::{Accelerator, Emulator};
use crate::backends::qemu::{DiskFormat, Local, Network};
use crate::domain::vm::host_key_alias;
use crate::domain::vm_spec::{VmSpec, WaitFor};
use crate::process::Limits;
use crate::ssh::{self, KnownHost, Login, Session};

/// How long a guest has to switch itself off before the plug is pulled.
const SHUTDOWN: Duration = Duration::from_secs(60);

/// How long a login is tried after the SSH server has spoken: cloud-init may still be making the user. A guest
/// that never lets us in is up all the same.
fn patience(accelerator: Accelerator) -> Duration {
    match accelerator {
        Accelerator::Kvm | Accelerator::Hvf => Duration::from_secs(30),
        Accelerator::Tcg => Duration::from_secs(180),
    }
}

/// How often another port for SSH is tried.
const TRIES: usize = 5;

/// Starts the machine as its record says, and waits for what is asked for. What a failure shows of it is free of what is
/// written only. The overall time is the caller's to limit, by `cancel`. When somebody has taken the port for SSH, the
/// machine gets another.
pub(super) async fn start(
    local: &Local,
    folder: &Folder,
    record: &mut Record,
    asked: &VmSpec,
    cancel: &CancellationToken,
) -> Result<(), VmError> {
    for _ in 1..TRIES {
        match attempt(local, folder, record, asked, cancel).await {
            Err(VmError::PortInUse { name: None, .. }) => {}
            other => return other,
        }
        record.ssh_port = free_port(folder, &record.ports)?;
        folder.write(record)?;
    }
    attempt(local, folder, record, asked, cancel).await
}

async fn attempt(
    local: &Local,
    folder: &Folder,
    record: &mut Record,
    asked: &VmSpec,
    cancel: &CancellationToken,
) -> Result<(), VmError> {
    let emulator = Emulator::find(record.arch, local.accelerator)?;
    let spec = spec(record);
    let guest = Guest::start(&spec, &emulator, folder.dir(), &local.runner, cancel).await;
    let mut guest = match guest {
        Ok(guest) => guest,
        Err(error) => return Err(VmError::starting(error, record, folder).await),
    };
    if record.admit.take().is_some() {
        folder.write(record)?;
    }
    let waited =
        wait(&mut guest, folder, record, asked.wait_for, patience(emulator.accelerator), cancel).await;
    waited.map_err(|error| error.redacted(&asked.redactor()))
}

fn spec(record: &Record) -> GuestSpec {
    let disk = |file: &str, format, access| Disk { file: file.into(), format, access };
    let spec = GuestSpec {
        id: record.id,
        name: record.name.clone(),
        cpus: record.cpus,
        memory_mb: record.memory_mb,
        disks: vec![
            disk(DISK, DiskFormat::Qcow2, DiskAccess::Durable),
            disk(SEED, DiskFormat::Raw, DiskAccess::ReadOnly),
        ],
        network: Network::User,
        forwards: forwards(record),
        credentials: std::collections::BTreeMap::new(),
        lifetime: Lifetime::Daemon,
    };
    match &record.admit {
        Some(key) => spec.admit(&record.username, key),
        None => spec,
    }
}

async fn wait(
    guest: &mut Guest,
    folder: &Folder,
    record: &Record,
    wait_for: WaitFor,
    patience: Duration,
    cancel: &CancellationToken,
) -> Result<(), VmError> {
    if wait_for == WaitFor::None {
        return Ok(());
    }
    let limits = Limits::cancelled_by(cancel);
    let banner = guest.wait_ssh(&limits).await;
    banner.map(drop).map_err(|error| with_console(error, folder))?;
    match (wait_for, login(folder, record)) {
        (WaitFor::CloudInit, login) => {
            let session = guest.connect(&login?, &limits).await;
            let session = session.map_err(|error| with_console(error, folder))?;
            cloud_init(guest, &session, &limits).await
        }
        (_, Ok(login)) => {
            let limits = Limits { timeout: Some(patience), ..limits };
            match guest.connect(&login, &limits).await.map(drop) {
                Err(GuestError::Ssh(error)) => {
                    tracing::warn!(machine = folder.id(), %error, "the SSH server is up, and does not let us in");
                    Ok(())
                }
                other => other.map_err(|error| with_console(error, folder)),
            }
        }
        // A key with a passphrase, an agent's key: the user gets in, and we need not.
        (_, Err(error)) => {
            tracing::info!(machine = folder.id(), %error, "the SSH server is up; not logging in");
            Ok(())
        }
    }
}

/// How we log in ourselves.
fn login(folder: &Folder, record: &Record) -> Result<Login, VmError> {
    let key = record.private_key.as_ref().ok_or(VmError::NoPrivateKey)?;
    Ok(Login {
        username: record.username.clone(),
        key: ssh::load(key)?,
        known_host: KnownHost { path: folder.known_hosts(), alias: host_key_alias(record.id) },
    })
}

/// A guest that was given up shows what it printed last.
fn with_console(error: GuestError, folder: &Folder) -> VmError {
    match error {
        GuestError::Cancelled => {
            VmError::NotUp { console: crate::backends::qemu::guest::console::tail(folder.dir()) }
        }
        other => other.into(),
    }
}

async fn cloud_init(guest: &Guest, session: &Session, limits: &Limits) -> Result<(), VmError> {
    let done = ssh::wait_for_cloud_init(session, limits);
    let finished = guest.during("the end of cloud-init", &limits.cancel, done).await?;
    match finished.code {
        0 | 2 => Ok(()),
        code => Err(VmError::CloudInit { code, output: finished.output }),
    }
}

/// Presses the power button, and pulls the plug when that does not help. Giving up leaves it running.
pub(super) async fn stop(guest: Guest, cancel: &CancellationToken) -> Result<(), VmError> {
    tokio::select! {
        stopped = guest.shutdown(SHUTDOWN) => stopped.map_err(VmError::from),
        () = cancel.cancelled() => Err(VmError::Cancelled),
    }
}
