//! Why an AMI was not built, in words for the person who asked for it.

use std::io;
use std::path::{Path, PathBuf};

use super::TAIL;
use crate::backends::aws::AwsError;
use crate::backends::aws::vm::VmError;
use crate::backends::aws::waiting::WaitError;
use crate::domain::{BackendError, InputsChanged};
use crate::journal::JournalError;
use crate::packer::PackerError;
use crate::process::{BuildLog, ProcessError};
use crate::provision::parts::{Failure, PartError};
use crate::provision::{FailedCheck, UploadError};
use crate::ssh::SshError;

/// Why an AMI was not built.
#[derive(Debug, thiserror::Error)]
pub(super) enum BuildError {
    /// The operation was cancelled.
    #[error("the build was cancelled")]
    Cancelled,
    /// What is asked for cannot be had, because of one attribute.
    #[error("{problem}")]
    Refused {
        /// The attribute.
        attribute: &'static str,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The journal cannot be kept.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// AWS refused something.
    #[error(transparent)]
    Aws(#[from] AwsError),
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
    /// The way to the builder.
    #[error("could not prepare the way to the builder")]
    Way(#[from] VmError),
    /// A key.
    #[error("could not prepare the way to the builder")]
    Key(#[from] SshError),
    /// A file that the image is known by was edited since the plan.
    #[error(transparent)]
    InputsChanged(#[from] InputsChanged),
    /// A step cannot be prepared.
    #[error(transparent)]
    Parts(PartError),
    /// A step failed.
    #[error(transparent)]
    Steps(Failure),
    /// Packer, which runs the steps.
    #[error("could not build the image with Packer")]
    Packer(#[source] PackerError),
    /// What Packer tells of is no AMI of this build.
    #[error("Packer says that it made {told:?}, and {problem}")]
    Artifact {
        /// In Packer's words.
        told: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The AMI is there, and could not be completed.
    #[error("the image {image} was made and could not be completed")]
    Unfinished {
        /// Its id.
        image: String,
        /// Why.
        #[source]
        source: Box<BuildError>,
    },
    /// A check of the finished image failed.
    #[error(transparent)]
    Check(#[from] FailedCheck),
    /// No machine can be launched from the finished image.
    #[error("no machine can be launched from the finished image {image}")]
    Unlaunched {
        /// Its id.
        image: String,
        /// What it is about.
        attribute: &'static str,
        /// Why.
        #[source]
        source: Box<VmError>,
    },
    /// A machine from the finished image cannot be worked with.
    #[error("could not {doing}")]
    Unverified {
        /// What was being done with the image.
        doing: String,
        /// Why.
        #[source]
        source: VmError,
    },
    /// A failure of which something was left for a look.
    #[error(
        "{source}\n{left}\nRemove what is left with `terraform-provider-sindri sweep`, and `--data-dir` where you set one; it costs money until then"
    )]
    Kept {
        /// What failed.
        source: Box<BuildError>,
        /// What there is, and how to get at it.
        left: String,
    },
}

impl BuildError {
    /// About one attribute.
    pub(super) fn refused(attribute: &'static str, problem: impl Into<String>) -> Self {
        Self::Refused { attribute, problem: problem.into() }
    }

    /// For `map_err` on file operations.
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source }
    }

    /// Whether it is about the finished image, and what was launched from that.
    pub(super) fn is_of_the_image(&self) -> bool {
        matches!(self, Self::Check(_) | Self::Unlaunched { .. } | Self::Unverified { .. })
    }

    /// Whether the connection to a machine from the finished image broke.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Self::Unverified { source: VmError::Ssh(SshError::Lost(_)), .. })
    }

    /// The attribute that a build failed for, when it did not fail at once.
    fn attribute(&self) -> Option<&'static str> {
        match self {
            Self::Unlaunched { attribute, .. } => Some(attribute),
            Self::Unverified { source: VmError::Refused { attribute, .. }, .. } => Some(attribute),
            Self::Kept { source, .. } => source.attribute(),
            _ => None,
        }
    }

    /// As resources see it.
    pub(super) fn into_backend(self, log: &BuildLog) -> BackendError {
        match self {
            Self::Refused { attribute, problem } => {
                BackendError::Refused { attribute: attribute.to_owned(), problem }
            }
            other => BackendError::Build {
                attribute: other.attribute().map(str::to_owned),
                source: Box::new(other),
                log: log.path().to_owned(),
                tail: log.tail(TAIL),
            },
        }
    }
}

impl From<WaitError> for BuildError {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Aws(error) => Self::Aws(error),
            WaitError::Cancelled => Self::Cancelled,
        }
    }
}

impl From<PackerError> for BuildError {
    fn from(error: PackerError) -> Self {
        if error.is_cancelled() { Self::Cancelled } else { Self::Packer(error) }
    }
}

impl From<Failure> for BuildError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Start(error) | Failure::Packer(error) => error.into(),
            other => Self::Steps(other),
        }
    }
}

impl From<PartError> for BuildError {
    fn from(error: PartError) -> Self {
        match error {
            PartError::Upload(UploadError::Tar { source: ProcessError::Cancelled { .. }, .. }) => {
                Self::Cancelled
            }
            other => Self::Parts(other),
        }
    }
}
