//! What is kept on this computer of a machine: its key, its host key, its console.

use std::fs;
use std::path::{Path, PathBuf};

use super::VmError;
use crate::process::private;

/// The folder of one launch. It need not be there: on another computer it is not.
#[derive(Debug, Clone)]
pub(in crate::backends::aws) struct Files(PathBuf);

impl Files {
    pub(super) fn of(data_dir: &Path, launch: &str) -> Self {
        Self(data_dir.join("aws").join(launch))
    }

    pub(super) fn make(&self) -> Result<(), VmError> {
        private::create_dir(&self.0).map_err(|source| VmError::File { path: self.0.clone(), source })
    }

    pub(super) fn private_key(&self) -> PathBuf {
        self.0.join("id_ed25519")
    }

    pub(super) fn known_hosts(&self) -> PathBuf {
        self.0.join("known_hosts")
    }

    pub(super) fn console(&self) -> PathBuf {
        self.0.join("console.log")
    }

    pub(super) fn write_console(&self, text: &str) -> Result<(), VmError> {
        let path = self.console();
        self.make()?;
        private::write(&path, text.as_bytes()).map_err(|source| VmError::File { path, source })
    }

    /// Removes it, and the folder above once it is empty.
    pub(in crate::backends::aws) fn remove(&self) {
        if let Err(error) = private::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "a machine's files cannot be removed");
        }
        if let Some(above) = self.0.parent() {
            // Others' folders keep it there.
            let _ = fs::remove_dir(above);
        }
    }
}
