//! An image in the making: a folder that one process works on.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::process::lock::{self, How};
use crate::process::private;

/// The file that marks a failed build whose guest was left up for a look.
const KEPT: &str = "kept";

/// A folder in which an image is put together. While this value lives nobody else takes it for abandoned; the
/// kernel ends the claim with the process.
#[derive(Debug)]
pub struct Partial {
    id: Uuid,
    dir: PathBuf,
    _claim: File,
}

impl Partial {
    /// Claims a folder; none when somebody works on it, or when it is gone.
    pub(super) fn lock(id: Uuid, dir: PathBuf) -> io::Result<Option<Self>> {
        let claim = match OpenOptions::new().read(true).open(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let ours = lock::try_lock(&claim, How::Exclusive)?;
        Ok(ours.then_some(Self { id, dir, _claim: claim }))
    }

    /// Gives the folder its name, the claim staying.
    pub(super) fn rename(self, to: PathBuf) -> io::Result<Self> {
        std::fs::rename(&self.dir, &to)?;
        Ok(Self { dir: to, ..self })
    }

    /// The build's id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Marks it as kept: only a sweep by hand removes it.
    ///
    /// # Errors
    /// When the mark cannot be written.
    pub fn keep(&self) -> io::Result<()> {
        private::write(&self.dir.join(KEPT), b"")
    }

    /// Whether it is marked as kept.
    pub fn is_kept(&self) -> bool {
        self.dir.join(KEPT).exists()
    }
}
