//! Packs what a step uploads into an archive, the same for trees, guests and Packer.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::process::{BuildLog, Command, Limits, ProcessError, Runner};

/// Why an upload cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// There is nothing of that name.
    #[error("the upload's source {} does not exist", .0.display())]
    Absent(PathBuf),
    /// The archive cannot be made.
    #[error("could not create {}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The source cannot be read.
    #[error("could not read {}", path.display())]
    Tar {
        /// The source.
        path: PathBuf,
        /// What tar said.
        #[source]
        source: ProcessError,
    },
}

/// The name that a file or folder will have in its archive.
///
/// # Errors
/// When it is not there.
pub(super) fn archived_name(source: &Path) -> Result<String, UploadError> {
    let found = fs::canonicalize(source).ok();
    let name = found.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    name.ok_or_else(|| UploadError::Absent(source.to_owned()))
}

/// What an upload keeps of its source's modes: whether a file may be run. The cache key counts no more of them.
const MODE: &str = "--mode=u=rwX,go=rX,a-st";

/// Packs a file or folder into `archive` (0600). Returns its name in the archive.
///
/// # Errors
/// When it is not there or cannot be read.
pub async fn pack(
    runner: &Runner,
    source: &Path,
    archive: &Path,
    log: &BuildLog,
    cancel: &CancellationToken,
) -> Result<String, UploadError> {
    let absent = || UploadError::Absent(source.to_owned());
    let source = fs::canonicalize(source).map_err(|_| absent())?;
    let (parent, name) = source.parent().zip(source.file_name()).ok_or_else(absent)?;
    // tar keeps the mode of an archive that is there.
    let _ = fs::remove_file(archive);
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(archive);
    made.map_err(|source| UploadError::Archive { path: archive.to_owned(), source })?;
    let packed = runner.check(&tar(archive, parent, name), Some(log), &Limits::cancelled_by(cancel)).await;
    packed.map_err(|error| {
        // Of its last block, tar says only that it was not written whole.
        if error.lacks_space(archive.parent()) {
            return UploadError::Archive {
                path: archive.to_owned(),
                source: rustix::io::Errno::NOSPC.into(),
            };
        }
        UploadError::Tar { path: source.clone(), source: error }
    })?;
    Ok(name.to_string_lossy().into_owned())
}

fn tar(archive: &Path, parent: &Path, name: &OsStr) -> Command {
    Command::new("tar")
        .args(["--create", "--owner=0", "--group=0", "--sort=name", "--format=posix", MODE, "--file"])
        .arg(archive)
        .arg("--directory")
        .arg(parent)
        .arg("--")
        .arg(name)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn modes_are_the_same_whatever_the_umask_was() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("it");
        fs::create_dir_all(source.join("sub")).unwrap();
        for (name, mode) in [("a", 0o600), ("b", 0o664), ("run", 0o4700), ("sub", 0o2700), ("", 0o1777)] {
            let path = source.join(name);
            if !path.exists() {
                fs::write(&path, "x").unwrap();
            }
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        }
        let archive = dir.path().join("it.tar");
        let tar = tar(&archive, dir.path(), OsStr::new("it"));
        assert!(std::process::Command::new(tar.program).args(tar.args).status().unwrap().success());
        let listed =
            std::process::Command::new("tar").args(["--list", "-vf"]).arg(&archive).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        let modes: Vec<&str> = listed.lines().map(|line| &line[..10]).collect();
        assert_eq!(modes, ["drwxr-xr-x", "-rw-r--r--", "-rw-r--r--", "-rwxr-xr-x", "drwxr-xr-x"], "{listed}");
    }
}
