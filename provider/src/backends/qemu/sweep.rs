//! Removes what killed builds, deletes and launches left behind.

use std::path::PathBuf;

use super::Local;
use super::image;
use super::local::failed;
use crate::domain::BackendError;

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sweep {
    /// What nobody works on any more; guests that were kept for a look stay. Every build does this first.
    Abandoned,
    /// Those guests too.
    Everything,
    /// Only tells what [`Sweep::Everything`] would remove.
    DryRun,
}

impl Local {
    /// Removes what is left of builds that nobody works on, ends interrupted deletes, sets damaged images aside.
    /// Returns what was removed. Something that cannot be removed is logged and passed over.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn sweep(&self, how: Sweep) -> Result<Vec<PathBuf>, BackendError> {
        let dry = how == Sweep::DryRun;
        if !dry {
            self.store.finish_deletes().map_err(|error| failed("finishing an interrupted delete", error))?;
            self.store.forget_logs();
            self.store.remove_stale_locks().map_err(|error| failed("removing stale locks", error))?;
            self.store.set_damaged_aside().map_err(|error| failed("setting a damaged image aside", error))?;
        }
        let mut swept = self.sweep_machines(dry).await;
        for partial in
            self.store.abandoned().map_err(|error| failed("looking for unfinished builds", error))?
        {
            if how == Sweep::Abandoned && partial.is_kept() {
                continue;
            }
            let dir = partial.dir().to_owned();
            if dry {
                swept.push(dir);
                continue;
            }
            match image::remove_partial(&self.host(), partial.id(), &dir).await {
                Ok(()) => swept.push(dir),
                Err(error) => {
                    tracing::warn!(folder = %dir.display(), error = %crate::domain::backend::causes(&error), "an unfinished build cannot be removed");
                }
            }
        }
        Ok(swept)
    }
}
