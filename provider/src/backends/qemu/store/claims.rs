//! Claims that no state knows yet. They are held by files like the others, which say so, and which their process keeps
//! locked until state knows them: such a file that nobody has locked is what a process left that was killed before.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::Holder;
use crate::process::lock::{self, How};
use crate::process::private;

/// What such a file says.
const UNKNOWN: &[u8] = b"no state knows this claim yet\n";

/// Those of this process: their files, locked. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims(Arc<Mutex<BTreeMap<(String, Holder), File>>>);

impl Claims {
    /// Makes a claim on an image in its folder `holders`.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn make(&self, id: &str, holders: &Path, holder: &Holder) -> io::Result<()> {
        private::create_dir(holders)?;
        let file = holders.join(holder.to_string());
        if file.try_exists()? {
            // Twice is the same as once.
            return Ok(());
        }
        // Under another name first: it must not be seen unlocked.
        let fresh = holders.join(format!(".{holder}.new"));
        let mut claim = lock::open(&fresh)?;
        lock::try_lock(&claim, How::Exclusive)?;
        claim.write_all(UNKNOWN)?;
        claim.sync_all()?;
        fs::rename(&fresh, &file)?;
        private::sync_dir(holders)?;
        self.all().insert((id.to_owned(), holder.clone()), claim);
        Ok(())
    }

    /// State knows the claim: it stays when this process ends.
    ///
    /// # Errors
    /// What the file system says: the claim ends with the process then.
    pub(super) fn settle(&self, id: &str, holder: &Holder) -> io::Result<()> {
        let mut all = self.all();
        let key = (id.to_owned(), holder.clone());
        let Some(claim) = all.get(&key) else { return Ok(()) };
        claim.set_len(0)?;
        claim.sync_all()?;
        all.remove(&key);
        Ok(())
    }

    /// The claim is given up.
    pub(super) fn forget(&self, id: &str, holder: &Holder) {
        self.all().remove(&(id.to_owned(), holder.clone()));
    }

    fn all(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, Holder), File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a claim's file is what a process left that was killed before any state knew the claim. Another user's, which we may
/// not read, is a claim.
///
/// # Errors
/// What the file system says, but that there is no such file.
pub(super) fn is_abandoned(file: &Path) -> io::Result<bool> {
    let claim = match File::open(file) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            return Ok(false);
        }
        opened => opened?,
    };
    // Asked second: who made it known had it locked until then.
    Ok(lock::try_lock(&claim, How::Shared)? && claim.metadata()?.len() > 0)
}
