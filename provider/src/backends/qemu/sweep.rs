//! Removes what killed builds, deletes and launches left behind.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::Local;
use super::image;
use super::local::failed;
use super::store::Store;
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
    /// When the store cannot be read, or somebody else works on it until we are cancelled.
    pub async fn sweep(&self, how: Sweep, cancel: &CancellationToken) -> Result<Vec<PathBuf>, BackendError> {
        let dry = how == Sweep::DryRun;
        if !dry {
            self.in_store("finishing what was interrupted", cancel, Store::finish_interrupted).await?;
            self.store.forget_logs();
            self.store.remove_stale_locks().map_err(|error| failed("removing stale locks", error))?;
            self.in_store("setting a damaged image aside", cancel, Store::set_damaged_aside).await?;
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
                    tracing::warn!(folder = %dir.display(), error = %crate::domain::causes(&error), "an unfinished build cannot be removed");
                }
            }
        }
        Ok(swept)
    }
}
