//! Checks of a finished image: booted on an overlay that is thrown away, so that the image stays as it is.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::booted::{self, Booted};
use super::mirrors::Mirrors;
use super::prepare::{FirstBoot, Start};
use super::{Build, BuildError};
use crate::backends::qemu::DiskFormat;
use crate::domain::Environment;
use crate::process::{Command, Limits};
use crate::provision;

/// How long one check, and the end of the boot, may take.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Boots `disk` and runs the image's checks in it, if there are any. They reach what its steps did.
///
/// # Errors
/// [`BuildError::Check`] for the first that fails; whatever keeps the guest from booting.
pub(super) async fn verify(
    build: &Build<'_>,
    disk: &Path,
    mirrors: Option<Arc<Mirrors>>,
) -> Result<(), BuildError> {
    if build.spec.checks.is_empty() {
        return Ok(());
    }
    build.log.step("Booting the finished image to check it");
    let dir = build.work_dir.join(super::CHECK_GUEST);
    booted::make_dir(&dir)?;
    let overlay = dir.join("overlay.qcow2");
    let limits = Limits::cancelled_by(build.cancel);
    let made =
        build.host.runner.check(&overlay_command(disk, build.qemu.format, &overlay), None, &limits).await;
    made.map_err(BuildError::tool_in(&dir, format!("make {}", overlay.display())))?;
    let (format, first_boot) = (DiskFormat::Qcow2, FirstBoot::Whole);
    let start = Start { dir: dir.clone(), disk: &overlay, format, first_boot, mirrors };
    let guest = Booted::start(build, start).await?;
    let outcome = run(build, &guest).await;
    guest.end(outcome).await?;
    fs::remove_dir_all(&dir).map_err(BuildError::io("remove", &dir))
}

async fn run(build: &Build<'_>, guest: &Booted<'_>) -> Result<(), BuildError> {
    guest.exec(provision::STARTED, &Environment::default(), Some(PATIENCE)).await?;
    for check in &build.spec.checks {
        build.log.step(&format!("Checking: {}", check.name));
        let finished = guest.exec(&check.command, &Environment::default(), Some(PATIENCE)).await?;
        provision::judge(check, &finished)?;
    }
    Ok(())
}

/// An overlay over a disk of ours; both formats are named, none is guessed.
fn overlay_command(disk: &Path, format: DiskFormat, overlay: &Path) -> Command {
    Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", format.name(), "-b"])
        .arg(disk)
        .arg(overlay)
}
