//! A lock that is waited for, and whose file goes before it does.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::BackendError;
use crate::process::{lock, private};

/// How often a lock that somebody else holds is tried again.
const RETRY: Duration = Duration::from_millis(100);

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
        loop {
            if let Some(file) = lock::try_open(path).map_err(failed)? {
                return Ok(Self { path: path.to_owned(), _file: file });
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = cancel.cancelled() => {
                    return Err(BackendError::Cancelled { operation: doing.to_owned() });
                }
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
