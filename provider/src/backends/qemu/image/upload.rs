//! Packs what a step uploads into an archive, the same for trees and guests.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::{BuildError, Host};
use crate::process::{BuildLog, Command, Limits};

/// Packs a file or folder into `archive` (0600). Returns its name in the archive.
///
/// # Errors
/// When it is not there or cannot be read.
pub(super) async fn pack(
    host: &Host,
    source: &Path,
    archive: &Path,
    log: &BuildLog,
    cancel: &CancellationToken,
) -> Result<String, BuildError> {
    let absent = || BuildError::Invalid(format!("the upload's source {} does not exist", source.display()));
    let source = fs::canonicalize(source).map_err(|_| absent())?;
    let (parent, name) = source.parent().zip(source.file_name()).ok_or_else(absent)?;
    // tar keeps the mode of an archive that is there.
    let _ = fs::remove_file(archive);
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(archive);
    made.map_err(BuildError::io("create", archive))?;
    let command = Command::new("tar")
        .args(["--create", "--owner=0", "--group=0", "--sort=name", "--format=posix", "--file"])
        .arg(archive)
        .arg("--directory")
        .arg(parent)
        .arg("--")
        .arg(name);
    let packed = host.runner.check(&command, Some(log), &Limits::cancelled_by(cancel)).await;
    packed.map_err(BuildError::tool(format!("read {}", source.display())))?;
    Ok(name.to_string_lossy().into_owned())
}
