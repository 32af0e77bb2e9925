//! A lock that is waited for, and whose file goes before it does.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::{lock, private};

/// Why a turn was not had.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// What the file system says.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Somebody had it until the wait was cancelled.
    #[error(transparent)]
    Busy(#[from] lock::Busy),
}

/// Held until it is dropped.
#[derive(Debug)]
pub struct Turn {
    path: PathBuf,
    _file: File,
}

impl Turn {
    /// Waits until nobody else has it.
    ///
    /// # Errors
    /// When cancelled, and what the file system says.
    pub async fn wait(path: &Path, cancel: &CancellationToken) -> Result<Self, TurnError> {
        private::create_dir(path.parent().unwrap_or(path))?;
        let attempt = || Ok(lock::try_open(path)?);
        let file = lock::wait(path, cancel, attempt, TurnError::Busy).await?;
        Ok(Self { path: path.to_owned(), _file: file })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
