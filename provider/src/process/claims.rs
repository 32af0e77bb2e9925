//! Claims that no state knows yet. Each has a file that says so, and that its process keeps locked until state knows it: such
//! a file that nobody has locked is what a process left that was killed before.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::lock::{self, How};
use super::private;

/// What such a file says.
const UNKNOWN: &[u8] = b"no state knows this claim yet\n";

/// Those of this process, by their [`name`]: their files, locked. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Claims(Arc<Mutex<BTreeMap<String, File>>>);

impl Claims {
    /// Makes a claim's file, with its folder.
    ///
    /// # Errors
    /// What the file system says.
    pub fn make(&self, name: &str, file: &Path) -> io::Result<()> {
        let (Some(dir), Some(file_name)) = (file.parent(), file.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        private::create_dir(dir)?;
        if file.try_exists()? {
            // Twice is the same as once.
            return Ok(());
        }
        // Under another name first: it must not be seen unlocked.
        let fresh = dir.join(format!(".{}.new", file_name.display()));
        let mut claim = lock::open(&fresh)?;
        lock::try_lock(&claim, How::Exclusive)?;
        claim.write_all(UNKNOWN)?;
        claim.sync_all()?;
        fs::rename(&fresh, file)?;
        private::sync_dir(dir)?;
        self.all().insert(name.to_owned(), claim);
        Ok(())
    }

    /// State knows the claim: it stays when this process ends. Returns whether it was one of this process that none knew.
    ///
    /// # Errors
    /// What the file system says: the claim ends with the process then.
    pub fn settle(&self, name: &str) -> io::Result<bool> {
        let mut all = self.all();
        let Some(claim) = all.get(name) else { return Ok(false) };
        claim.set_len(0)?;
        claim.sync_all()?;
        all.remove(name);
        Ok(true)
    }

    /// The claim is given up.
    pub fn forget(&self, name: &str) {
        self.all().remove(name);
    }

    fn all(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a claim on an image is called among those of a process. Its file may move with the image's folder.
pub fn name(image: impl Display, holder: impl Display) -> String {
    format!("{image} {holder}")
}

/// Whether a claim's file is what a process left that was killed before any state knew the claim. Another user's, which we may
/// not read, is a claim.
///
/// # Errors
/// What the file system says, but that there is no such file.
pub fn is_abandoned(file: &Path) -> io::Result<bool> {
    let claim = match File::open(file) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            return Ok(false);
        }
        opened => opened?,
    };
    // Asked second: who made it known had it locked until then.
    Ok(lock::try_lock(&claim, How::Shared)? && claim.metadata()?.len() > 0)
}
