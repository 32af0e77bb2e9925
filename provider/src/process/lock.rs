//! Locks between processes, each on a file of its own.
//!
//! The kernel releases a lock with the last process that holds it, so a crash leaves none behind.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::FlockOperation;

/// What came of trying to take a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is ours.
    Ours,
    /// Somebody has it.
    Busy,
    /// Somebody had it and has removed the file: a lock on a file without a name is worth nothing.
    Ended,
}

/// Opens a lock's file (0600), making it if need be.
///
/// # Errors
/// What the file system says.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)
}

/// Tries to take the lock, without waiting.
///
/// # Errors
/// What the file system says.
pub fn take(file: &File, path: &Path) -> io::Result<Taken> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Taken::Busy),
        Err(error) => return Err(error.into()),
    }
    let held = file.metadata()?.ino();
    let named = fs::metadata(path).is_ok_and(|named| named.ino() == held);
    Ok(if named { Taken::Ours } else { Taken::Ended })
}

/// Opens and takes a lock; `None` while somebody has it. It is held as long as the file is open.
///
/// # Errors
/// What the file system says.
pub fn try_open(path: &Path) -> io::Result<Option<File>> {
    loop {
        let file = open(path)?;
        match take(&file, path)? {
            Taken::Ours => return Ok(Some(file)),
            Taken::Busy => return Ok(None),
            Taken::Ended => {}
        }
    }
}
