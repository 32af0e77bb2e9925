//! Locks between processes: one short one for the store, one per cache key for the length of a build.
//!
//! The kernel releases a lock with the process that holds it, so a crash leaves none behind.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::{Store, StoreError, files, io_error};
use crate::domain::CacheKey;
use crate::process::lock::{self, How, Taken, open, take};
use crate::process::private;

/// Held while an image of one key is built. Its file goes with it; those that wait keep the file open and read
/// there why a build failed.
#[derive(Debug)]
pub struct KeyLock {
    path: PathBuf,
    file: File,
}

impl Store {
    /// The lock for changes that take milliseconds: holders, labels, deletes. Waits for it on this thread, until
    /// somebody stops it.
    pub(super) fn lock_store(&self) -> Result<File, StoreError> {
        private::create_dir(&self.root).map_err(io_error("make", &self.root))?;
        let path = self.root.join("store.lock");
        lock::wait_blocking(&path, &self.stop, || self.try_lock_store(), StoreError::Busy)
    }

    /// The same lock, if nobody has it.
    pub(super) fn try_lock_store(&self) -> Result<Option<File>, StoreError> {
        let path = self.root.join("store.lock");
        let file = open(&path).map_err(io_error("open", &path))?;
        let ours = lock::try_lock(&file, How::Exclusive).map_err(io_error("lock", &path))?;
        Ok(ours.then_some(file))
    }

    /// Waits for the lock of a key. Whoever gets it looks again before building: another may have built since it looked,
    /// whether it had to wait or not. Those that wait share the failure of the one that they wait for.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when cancelled, [`StoreError::SharedFailure`], and what the file system says.
    pub async fn lock_key(&self, key: &CacheKey, cancel: &CancellationToken) -> Result<KeyLock, StoreError> {
        let dir = self.root.join("locks");
        private::create_dir(&dir).map_err(io_error("make", &dir))?;
        let path = dir.join(key.as_str());
        let mut file = open(&path).map_err(io_error("open", &path))?;
        let attempt = || loop {
            match take(&file, &path).map_err(io_error("lock", &path))? {
                Taken::Ours => return Ok(Some(())),
                Taken::Busy => return Ok(None),
                Taken::Ended => {}
            }
            if let Some(message) = failure(&file) {
                return Err(StoreError::SharedFailure { message });
            }
            file = open(&path).map_err(io_error("open", &path))?;
        };
        lock::wait(&path, cancel, attempt, StoreError::Busy).await?;
        // What a killed process may have left in it.
        file.set_len(0).map_err(io_error("write", &path))?;
        Ok(KeyLock { path, file })
    }
}

impl Store {
    /// Removes lock files that killed processes left.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove_stale_locks(&self) -> Result<(), StoreError> {
        let dir = self.root.join("locks");
        for name in files::names(&dir).map_err(io_error("list", &dir))? {
            let path = dir.join(name);
            let Ok(file) = OpenOptions::new().read(true).write(true).open(&path) else { continue };
            if matches!(take(&file, &path), Ok(Taken::Ours)) {
                // Whoever opened it meanwhile sees that it has no name any more, and takes a new one.
                let _ = file.set_len(0);
                let _ = fs::remove_file(&path);
            }
        }
        Ok(())
    }
}

impl KeyLock {
    /// Tells those that wait that the build failed.
    pub fn report_failure(&self, message: &str) {
        // A report that cannot be written costs those that wait a build of their own, nothing else.
        let _ = self.file.write_all_at(message.as_bytes(), 0);
    }
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        // Before the lock is released with the file: see `take`.
        let _ = fs::remove_file(&self.path);
    }
}

/// Why the build that had the lock failed, if it did.
fn failure(file: &File) -> Option<String> {
    let mut bytes = vec![0; usize::try_from(file.metadata().ok()?.len()).ok()?];
    file.read_exact_at(&mut bytes, 0).ok()?;
    String::from_utf8(bytes).ok().filter(|message| !message.is_empty())
}
