//! A lock that is waited for, and whose file goes before it does.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::domain::BackendError;
use crate::process::{lock, private};

/// Held until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    path: PathBuf,
    _file: File,
}

impl Turn {
    /// Waits until nobody else has it; `doing` says what for.
    ///
    /// # Errors
    /// When cancelled, and what the file system says.
    pub(super) async fn wait(
        path: &Path,
        doing: &str,
        cancel: &CancellationToken,
    ) -> Result<Self, BackendError> {
        let failed = |error: io::Error| BackendError::failed(doing, error);
        private::create_dir(path.parent().unwrap_or(path)).map_err(failed)?;
        let attempt = || lock::try_open(path).map_err(failed);
        let given_up = |busy| BackendError::failed(doing, busy);
        let file = lock::wait(path, cancel, attempt, given_up).await?;
        Ok(Self { path: path.to_owned(), _file: file })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
