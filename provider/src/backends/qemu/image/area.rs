//! The folder in which trees lie: `cache_dir/trees/area`.
//!
//! Its content belongs to ids of a user namespace, whose root is nobody on the host, and for whom some of its folders are
//! open; the folder above the area keeps all others out. Inside the namespace it is [`AREA`](crate::process::enter::AREA).
//! What belongs to other ids is removed through the namespace too.
//!
//! Whoever is root in the namespace may have put a link where we write as the host's user: nothing is written through one.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio_util::sync::CancellationToken;

use super::{BuildError, Host};
use crate::process::enter::{self, Entry};
use crate::process::lock::{self, How};
use crate::process::private;
use crate::process::{Command, Limits};

/// The area of one cache folder.
#[derive(Debug, Clone)]
pub(super) struct Area {
    path: PathBuf,
}

/// The folder above it.
fn guard(cache_dir: &Path) -> PathBuf {
    cache_dir.join("trees")
}

impl Area {
    /// The area, which need not be there.
    pub(super) fn of(cache_dir: &Path) -> Self {
        Self { path: guard(cache_dir).join("area") }
    }

    /// Opens the area, making it when there is none.
    ///
    /// # Errors
    /// When a folder cannot be made.
    pub(super) fn open(cache_dir: &Path) -> Result<Self, BuildError> {
        let guard = guard(cache_dir);
        private::create_dir(&guard).map_err(BuildError::io("create", &guard))?;
        let area = Self::of(cache_dir);
        for folder in ["", "layers", "work"] {
            area.make(folder, 0o755)?;
        }
        Ok(area)
    }

    /// A path on the host.
    pub(super) fn host(&self, relative: &str) -> PathBuf {
        self.path.join(relative)
    }

    /// Makes a folder in which the namespace's root can make things.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn make_open(&self, relative: &str) -> Result<PathBuf, BuildError> {
        self.make(relative, 0o777)
    }

    /// Makes a folder in which only we can make things.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn make_ours(&self, relative: &str) -> Result<PathBuf, BuildError> {
        self.make(relative, 0o755)
    }

    fn make(&self, relative: &str, mode: u32) -> Result<PathBuf, BuildError> {
        let path = self.host(relative);
        fs::create_dir_all(&path).map_err(BuildError::io("create", &path))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // A umask does not apply to this.
        rustix::fs::open(&path, flags, Mode::empty())
            .and_then(|folder| rustix::fs::fchmod(folder, Mode::from_raw_mode(mode)))
            .map_err(|error| BuildError::io("open up", &path)(error.into()))?;
        Ok(path)
    }

    /// The command that enters the namespaces here.
    pub(super) fn command(&self, host: &Host, entry: &Entry) -> Command {
        self.command_in(host, entry, "")
    }

    /// The same where nothing but the folder is seen of the area: for programs of packages.
    pub(super) fn command_in(&self, host: &Host, entry: &Entry, folder: &str) -> Command {
        Command::new(host.runner.supervisor()).arg("enter").arg(entry.to_arg()).cwd(self.host(folder))
    }

    /// Removes a tree whose files belong to the namespace's ids. Nothing there is success.
    ///
    /// # Errors
    /// When something of it stays.
    pub(super) async fn remove(&self, host: &Host, relative: &str) -> Result<(), BuildError> {
        let path = self.host(relative);
        // What a single host user owns (root's own view, or an empty shell) goes without a namespace.
        if private::remove_dir_all(&path).is_ok() {
            return Ok(());
        }
        let entry = Entry::new("rm").args(["-rf", "--one-file-system", "--"]).args(inner(&path, relative));
        let command = self.command(host, &entry);
        let limits = Limits { cancel: CancellationToken::new(), timeout: Some(Duration::from_secs(300)) };
        // Its exit code says little: rm cannot remove the outermost folders, which are ours.
        let finished =
            host.runner.run(&command, None, &limits).await.map_err(BuildError::tool("remove a tree"))?;
        private::remove_dir_all(&path).map_err(|source| match super::said::refused(&finished.output) {
            Some(error) => error,
            None => BuildError::Io { operation: "remove", path, source },
        })
    }

    /// Takes a lock, waiting for its holder. Dropping the file releases it.
    ///
    /// # Errors
    /// When cancelled meanwhile, or the lock's file cannot be made.
    pub(super) async fn lock(
        &self,
        relative: &str,
        how: How,
        cancel: &CancellationToken,
    ) -> Result<File, BuildError> {
        lock_file(&self.host(relative), how, cancel).await
    }

    /// Takes a lock if nobody holds it in a way that excludes ours.
    ///
    /// # Errors
    /// When the lock's file cannot be made.
    pub(super) fn try_lock(&self, relative: &str, how: How) -> Result<Option<File>, BuildError> {
        try_lock_file(&self.host(relative), how)
    }
}

/// A new file, whatever was there before, a link too.
///
/// # Errors
/// When it cannot be made.
pub(super) fn create_anew(path: &Path, mode: u32) -> Result<File, BuildError> {
    private::remove_file(path).map_err(BuildError::io("remove", path))?;
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let file = file.map_err(BuildError::io("create", path))?;
    // A umask does not apply to this.
    file.set_permissions(Permissions::from_mode(mode)).map_err(BuildError::io("open up", path))?;
    Ok(file)
}

/// Writes a new program, whatever was there before.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write_program(path: &Path, text: &str) -> Result<(), BuildError> {
    create_anew(path, 0o755)?.write_all(text.as_bytes()).map_err(BuildError::io("write", path))
}

/// Takes a lock, waiting for its holder. Dropping the file releases it.
///
/// # Errors
/// When cancelled meanwhile, or the lock's file cannot be made.
pub(super) async fn lock_file(path: &Path, how: How, cancel: &CancellationToken) -> Result<File, BuildError> {
    lock::wait(path, cancel, || try_lock_file(path, how), BuildError::Busy).await
}

/// Takes a lock if nobody holds it in a way that excludes ours.
///
/// # Errors
/// When the lock's file cannot be made.
pub(super) fn try_lock_file(path: &Path, how: How) -> Result<Option<File>, BuildError> {
    let file = lock::open(path).map_err(BuildError::io("open", path))?;
    let ours = lock::try_lock(&file, how).map_err(BuildError::io("lock", path))?;
    Ok(ours.then_some(file))
}

/// The folder's children as the namespace sees them: the folder itself is ours.
fn inner(path: &Path, relative: &str) -> Vec<String> {
    let children = fs::read_dir(path).into_iter().flatten().flatten();
    children
        .map(|child| format!("{}/{relative}/{}", enter::AREA, child.file_name().to_string_lossy()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_is_written_through_a_link_and_only_we_make_things_in_the_area() {
        let dir = tempfile::tempdir().unwrap();
        let area = Area::open(dir.path()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for (folder, expected) in [("..", 0o700), ("", 0o755), ("layers", 0o755), ("work", 0o755)] {
            assert_eq!(mode(&area.host(folder)), expected, "{folder}");
        }
        let (victim, place) = (dir.path().join("victim"), area.make_open("work/x").unwrap().join("script"));
        fs::write(&victim, "kept").unwrap();
        fs::set_permissions(&victim, Permissions::from_mode(0o600)).unwrap();
        symlink(&victim, &place).unwrap();
        write_program(&place, "new").unwrap();
        assert_eq!((fs::read_to_string(&victim).unwrap().as_str(), mode(&victim)), ("kept", 0o600));
        assert_eq!((fs::read_to_string(&place).unwrap().as_str(), mode(&place)), ("new", 0o755));

        let other = dir.path().join("other");
        private::create_dir(&other).unwrap();
        symlink(&other, area.host("work/x/root")).unwrap();
        assert!(area.make_open("work/x/root").is_err());
        assert_eq!(mode(&other), 0o700);
    }
}
