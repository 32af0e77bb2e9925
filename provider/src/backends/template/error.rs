//! Why a template was not built, in words for the person who asked for it.

use std::io;
use std::path::{Path, PathBuf};

use crate::domain::{BackendError, InputsChanged};
use crate::journal::JournalError;
use crate::packer::PackerError;
use crate::process::BuildLog;

/// How many lines of the log a diagnostic shows.
const TAIL: usize = 20;

/// Why a template was not built.
#[derive(Debug, thiserror::Error)]
pub(super) enum BuildError {
    /// The operation was cancelled.
    #[error("the build was cancelled")]
    Cancelled,
    /// The template, or what comes with it, has changed since it was looked at.
    #[error("{problem}")]
    Refused {
        /// The attribute.
        attribute: String,
        /// What is wrong.
        problem: String,
    },
    /// A file that the image is known by was edited since the plan.
    #[error(transparent)]
    InputsChanged(#[from] InputsChanged),
    /// The journal cannot be kept.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A file operation failed.
    #[error("could not {operation} {}", path.display())]
    Io {
        /// A verb.
        operation: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Packer.
    #[error("could not build the template with Packer")]
    Packer(#[source] PackerError),
    /// Packer made nothing that could be an image.
    #[error(
        "Packer ended without an error, and without an artifact{}\nA template of which nothing comes is no image: see `only`, `except` and the log",
        if .said.is_empty() { String::new() } else { format!("; its last lines were:\n{said}") }
    )]
    NoArtifact {
        /// What Packer said last.
        said: String,
    },
    /// Packer says that it made something that is not there.
    #[error(
        "Packer says that it made {what}, and there is no such thing\nIf it is in a cloud, see that the provider's credentials are of the account that the template builds in"
    )]
    Absent {
        /// What.
        what: String,
    },
    /// What was made cannot be looked at.
    #[error("what Packer made cannot be looked at")]
    Unseen(#[source] BackendError),
    /// A failure that left something.
    #[error("{source}\n{told}")]
    Left {
        /// What failed.
        source: Box<BuildError>,
        /// What became of what was made all the same.
        told: String,
    },
}

impl BuildError {
    /// For `map_err` on file operations.
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source }
    }

    /// As resources see it.
    pub(super) fn into_backend(self, log: &BuildLog) -> BackendError {
        match self {
            Self::Refused { attribute, problem } => BackendError::Refused { attribute, problem },
            other => BackendError::Build {
                source: Box::new(other),
                attribute: None,
                log: log.path().to_owned(),
                tail: log.tail(TAIL),
            },
        }
    }
}

impl From<PackerError> for BuildError {
    fn from(error: PackerError) -> Self {
        if error.is_cancelled() { Self::Cancelled } else { Self::Packer(error) }
    }
}
