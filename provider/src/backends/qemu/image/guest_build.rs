//! Steps in a booted guest: boots the disk in the making, runs them over SSH, cleans up behind itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::booted::{Booted, TAIL};
use super::mirrors::{self, Mirrors};
use super::prepare::{FirstBoot, Start, is_seeded};
use super::{Build, BuildError};
use crate::backends::qemu::DiskFormat;
use crate::backends::qemu::guest::GuestError;
use crate::domain::Environment;
use crate::provision::{self, StepFailure, Work};
use crate::ssh::SshError;

pub(super) const AWAIT: &str = include_str!("../../../../../templates/scripts/await-cloud-init.sh");
pub(super) const LEAVE: &str = include_str!("../../../../../templates/scripts/leave-guest.sh");
pub(super) const SWITCH_OFF: &str = include_str!("../../../../../templates/scripts/switch-off.sh");

/// How long cloud-init, cleaning and giving blocks back may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// How long a guest may take to switch itself off, its services being killed.
pub(super) const OFF: Duration = Duration::from_secs(120);

/// Runs the image's steps in a guest with the raw disk `disk`, whose folder is the guest's too. Afterwards the disk
/// holds no trace of the builder. Returns the mirrors that they reached, if nothing else.
///
/// # Errors
/// What stops a step or the guest; [`BuildError::Kept`] when the guest was left running.
pub(super) async fn provision(
    build: &Build<'_>,
    dir: PathBuf,
    disk: &Path,
    mirrors: Option<Arc<Mirrors>>,
) -> Result<Option<Arc<Mirrors>>, BuildError> {
    build.log.step("Booting the guest");
    let start = Start { dir, disk, format: DiskFormat::Raw, first_boot: FirstBoot::Brief, mirrors };
    let mut guest = Booted::start(build, start).await?;
    let outcome = run(build, &mut guest).await;
    let mirrors = guest.mirrors();
    guest.end(outcome).await.map(|()| mirrors)
}

async fn run(build: &Build<'_>, guest: &mut Booted<'_>) -> Result<(), BuildError> {
    await_cloud_init(build, guest).await?;
    if guest.mirrors().is_some() {
        own_script(guest, "prepare the guest", mirrors::FORGET_PROXIES, &Environment::default()).await?;
    }
    for task in provision::tasks(build.spec) {
        guest.run(&task).await?;
        if task.work == Work::Reboot {
            await_cloud_init(build, guest).await?;
        }
    }
    let cleanups = provision::cleanup(build.spec.security);
    if !cleanups.is_empty() {
        own_script(guest, "quiet the guest", provision::QUIET, &Environment::default()).await?;
    }
    for cleanup in cleanups {
        guest.run(&cleanup).await?;
    }
    build.log.step("Leaving the guest");
    leave(guest, &leave_environment(&guest.public_key)).await
}

/// Each boot of a seeded guest has cloud-init at work, with which neither steps nor the clean-up are to race.
async fn await_cloud_init(build: &Build<'_>, guest: &Booted<'_>) -> Result<(), BuildError> {
    if is_seeded(build.qemu) {
        build.log.step("Waiting for cloud-init");
        guest.exec(AWAIT, &Environment::default(), Some(PATIENCE)).await?;
    }
    Ok(())
}

/// What the last script is told: by which key we got in.
pub(super) fn leave_environment(public_key: &str) -> Environment {
    let mut environment = Environment::default();
    let key = public_key.split(' ').nth(1).unwrap_or(public_key).to_owned();
    environment.plain.insert("SINDRI_KEY".to_owned(), key);
    environment
}

/// Removes what the builder left in the guest, and has it switch itself off; with it goes the connection.
async fn leave(guest: &Booted<'_>, environment: &Environment) -> Result<(), BuildError> {
    let left = own_script(guest, "leave the guest", LEAVE, environment).await;
    left.map_err(|error| if is_gone(&error) { off_before_it_was_left() } else { error })?;
    match own_script(guest, "switch the guest off", SWITCH_OFF, &Environment::default()).await {
        Err(error) if !is_gone(&error) => return Err(error),
        _ => {}
    }
    if !guest.is_off_within(OFF).await? {
        return Err(BuildError::Invalid("the guest did not switch itself off".to_owned()));
    }
    Ok(())
}

/// Whether the guest, or the connection to it, ended meanwhile.
fn is_gone(error: &BuildError) -> bool {
    let BuildError::Guest { source, .. } = error else { return false };
    matches!(source, GuestError::Ssh(SshError::Lost(_)) | GuestError::Stopped { .. })
}

fn off_before_it_was_left() -> BuildError {
    let why = "the guest switched itself off while the builder's key and other traces were removed from it. Let no step switch \
               it off, now or later: the build does that";
    BuildError::Invalid(why.to_owned())
}

async fn own_script(
    guest: &Booted<'_>,
    name: &str,
    script: &str,
    environment: &Environment,
) -> Result<(), BuildError> {
    let finished = guest.exec(script, environment, Some(PATIENCE)).await?;
    if finished.code == 0 {
        return Ok(());
    }
    Err(StepFailure::Code { name: name.to_owned(), code: finished.code, tail: finished.tail(TAIL) }.into())
}

/// Moves a raw disk into the guest's folder, block by block where it cannot be renamed.
///
/// # Errors
/// When it cannot be moved.
pub(super) async fn move_disk(build: &Build<'_>, from: &Path, to: &Path) -> Result<(), BuildError> {
    if fs::rename(from, to).is_ok() {
        return Ok(());
    }
    let command = super::convert::command(from, DiskFormat::Raw, to, DiskFormat::Raw, false);
    build.here().run(&command).await.map_err(BuildError::tool(format!("move the disk to {}", to.display())))
}
