//! Files and folders that only their owner can read, written such that a crash leaves the old or the new; and their removal.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Makes a folder, and those above it that are missing, 0700.
///
/// # Errors
/// When it cannot be made.
pub fn create_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Writes a file (0600) beside and renames it over the old one.
///
/// # Errors
/// When it cannot be written; the old one stays.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, |file| file.write_all(bytes))
}

/// Makes sure that names in a folder, new and removed, are on the disk.
///
/// # Errors
/// What the file system says.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Removes a file. One that is not there is fine.
///
/// # Errors
/// When it stays.
pub fn remove_file(path: &Path) -> io::Result<()> {
    unless_absent(fs::remove_file(path))
}

/// Removes a folder with all that is in it. One that is not there is fine.
///
/// # Errors
/// When something stays.
pub fn remove_dir_all(dir: &Path) -> io::Result<()> {
    unless_absent(fs::remove_dir_all(dir))
}

/// The same for a build's folder: that it stays is told, and no reason to stop.
pub fn remove_build_dir(dir: &Path) {
    if let Err(error) = remove_dir_all(dir) {
        tracing::warn!(folder = %dir.display(), %error, "a build's folder cannot be removed");
    }
}

fn unless_absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Copies a file (0600), complete or not there.
///
/// # Errors
/// When either file cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    replace(to, |file| io::copy(&mut source, file).map(drop))
}

/// Has `fill` write a file (0600) beside, and renames it over the old one.
///
/// # Errors
/// Those of `fill`, and of the file system; the old file stays.
pub fn replace(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", uuid::Uuid::new_v4().simple()));
    let fresh = path.with_file_name(name);
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&fresh)?;
    let written = fill(&mut file).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&fresh, path));
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        create_dir(&folder).unwrap();
        let (file, other) = (folder.join("file"), folder.join("other"));
        write(&file, b"old, and longer").unwrap();
        write(&file, b"new").unwrap();
        copy(&file, &other).unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"new");
        assert!(copy(&folder.join("none"), &file).is_err());
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&file), mode(&other)), (0o700, 0o600, 0o600));
    }

    #[test]
    fn what_is_not_there_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, folder) = (dir.path().join("file"), dir.path().join("a"));
        fs::write(&file, "").unwrap();
        create_dir(&folder.join("b")).unwrap();
        assert!(remove_file(&folder).is_err() && remove_dir_all(&file).is_err());
        for _ in 0..2 {
            remove_file(&file).unwrap();
            remove_dir_all(&folder).unwrap();
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
