//! Why an image was not built, in words for the person who asked for it.

use std::io;
use std::path::{Path, PathBuf};

use super::said::{package, refused};
use crate::backends::qemu::guest::GuestError;
use crate::domain::InputsChanged;
use crate::packer::{PackerError, Version};
use crate::process::ProcessError;
use crate::process::lock::Busy;
use crate::provision::parts::{Failure, PartError};
use crate::provision::{FailedCheck, StepFailure, UploadError};

/// Why an image was not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The operation was cancelled; nothing is left behind.
    #[error("the build was cancelled")]
    Cancelled,
    /// Somebody else held a lock until the build was cancelled.
    #[error(transparent)]
    Busy(Busy),
    /// A file operation failed.
    #[error("could not {operation} {}", .path.display())]
    Io {
        /// A verb.
        operation: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk of this host is full.
    #[error(
        "no space left while trying to {operation}. Free some space, or set `data_dir` (images) or `XDG_CACHE_HOME` \
         (layers and downloads) to a folder on a larger disk"
    )]
    NoSpace {
        /// What was being done.
        operation: String,
    },
    /// A program that the build needs failed or is missing.
    #[error("could not {operation}{}", package(.source))]
    Tool {
        /// What was being done.
        operation: String,
        /// What the program said.
        #[source]
        source: ProcessError,
    },
    /// The suite is not one that can be bootstrapped.
    #[error("unknown suite {suite:?}: {reason}")]
    UnknownSuite {
        /// As asked for.
        suite: String,
        /// Where it was looked for.
        reason: String,
    },
    /// The mirror did not answer, or not as a mirror does.
    #[error("the package mirror {url} cannot be used: {reason}")]
    Mirror {
        /// The address that was asked.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The host's APT sources name no mirror of the distribution.
    #[error(
        "this host's APT sources (/etc/apt) name no mirror of {distribution}: set `mirror` in `bootstrap` to the \
         address of one"
    )]
    NoMirror {
        /// Its name.
        distribution: &'static str,
    },
    /// Steps cannot be led to mirrors alone.
    #[error("`network = \"mirror\"` cannot be had here: {reason}")]
    NoWay {
        /// Why.
        reason: String,
    },
    /// The distribution's signing keys are not on this host.
    #[error("the signing keys of {distribution} are missing: install the package {package}")]
    NoKeyring {
        /// Its name.
        distribution: &'static str,
        /// What holds them.
        package: &'static str,
    },
    /// A package that the suite does not have.
    #[error("the suite has no package named {}", .packages.join(", "))]
    UnknownPackages {
        /// Their names.
        packages: Vec<String>,
    },
    /// The host does not let us make namespaces.
    #[error("cannot make the namespaces in which an image is built: {reason}. {hint}")]
    Namespaces {
        /// What was refused.
        reason: String,
        /// What to do.
        hint: &'static str,
    },
    /// The bootstrap failed for another reason.
    #[error("the bootstrap of {suite} failed; its last lines were:\n{tail}")]
    Bootstrap {
        /// The suite.
        suite: String,
        /// The last lines of output.
        tail: String,
    },
    /// A provisioning step failed.
    #[error(transparent)]
    Step(#[from] StepFailure),
    /// The disk cannot hold what is in the image.
    #[error(
        "a disk of {disk_gb} GB is too small for this image: its content needs {needed_gb} GB. Set `disk_size_gb` to \
         {needed_gb} or more"
    )]
    TooSmall {
        /// As asked for, in GiB.
        disk_gb: u32,
        /// The least that would do, in GiB.
        needed_gb: u64,
    },
    /// A download that did not come to its end.
    #[error("could not download {url}: {reason}")]
    Download {
        /// Without what may be secret in it.
        url: String,
        /// What happened.
        reason: String,
        /// Whether trying again may help.
        again: bool,
    },
    /// A file that is not the one that was meant. Nothing of it is kept.
    #[error(
        "{what} has another checksum than asked for: expected sha256 {expected}, found {found}. Fetch it again, or compare \
         `sha256` with the list of who publishes it; nothing of it was kept"
    )]
    Checksum {
        /// The file or URL.
        what: String,
        /// As asked for.
        expected: String,
        /// As it is.
        found: String,
    },
    /// A base image that is not used.
    #[error("the base image is refused: {reason}")]
    Refused {
        /// Why.
        reason: &'static str,
    },
    /// The guest in which the image is built or checked.
    #[error("could not {operation}")]
    Guest {
        /// What was being done.
        operation: String,
        /// What happened.
        #[source]
        source: GuestError,
    },
    /// Packer, which runs the steps of an image whose `engine` it is.
    #[error("could not build the image with Packer")]
    Packer(#[source] PackerError),
    /// The Packer that is there cannot do what its engine needs.
    #[error(
        "`qemu.engine = \"packer\"` needs Packer {needed} or later, and {} is Packer {found}: install a newer one, or set \
         `engine = \"native\"`",
        program.display()
    )]
    OldPacker {
        /// The first version that has all options.
        needed: Version,
        /// What is there.
        found: Version,
        /// Where.
        program: PathBuf,
    },
    /// A check of the finished image failed.
    #[error(transparent)]
    Check(#[from] FailedCheck),
    /// A failure whose guest was left running for a look.
    #[error(
        "{source}\nThe guest was left running because of `on_error = \"keep\"`. Log in with:\n  {login}\nRemove it \
         with `terraform-provider-sindri sweep`, and `--data-dir` where you set one"
    )]
    Kept {
        /// What failed.
        source: Box<BuildError>,
        /// An ssh command.
        login: String,
    },
    /// A file that the image is known by was edited while it was built.
    #[error(transparent)]
    InputsChanged(#[from] InputsChanged),
    /// The specification cannot be built on this host or contradicts itself.
    #[error("{0}")]
    Invalid(String),
}

impl From<UploadError> for BuildError {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Absent(_) => Self::Invalid(error.to_string()),
            UploadError::Archive { path, source } => Self::io("create", &path)(source),
            UploadError::Tar { path, source } => Self::tool(format!("read {}", path.display()))(source),
        }
    }
}

impl From<PartError> for BuildError {
    fn from(error: PartError) -> Self {
        match error {
            PartError::Upload(error) => error.into(),
            PartError::Write { path, source } => Self::io("write", &path)(source),
            PartError::Shell { name, source } => {
                Self::Guest { operation: format!("prepare step {name}"), source: GuestError::Ssh(source) }
            }
        }
    }
}

impl From<Failure> for BuildError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Step(failure) => failure.into(),
            Failure::Check { name, code, tail } => Self::Check(FailedCheck { name, code, tail }),
            Failure::Start(error) | Failure::Packer(error) => Self::packer(error),
        }
    }
}

impl BuildError {
    /// With what a guest printed as `redact` leaves it.
    pub fn redacted(self, redact: impl Fn(&str) -> String) -> Self {
        match self {
            Self::Guest { operation, source } => Self::Guest { operation, source: source.redacted(redact) },
            Self::Kept { source, login } => Self::Kept { source: Box::new(source.redacted(redact)), login },
            other => other,
        }
    }

    /// For `map_err` on file operations.
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { operation: format!("{operation} {}", path.display()) }
            }
            _ => Self::Io { operation, path: path.to_owned(), source },
        }
    }

    /// For `map_err` on what Packer does: cancellation is told apart.
    pub(super) fn packer(source: PackerError) -> Self {
        if source.is_cancelled() { Self::Cancelled } else { Self::Packer(source) }
    }

    /// For `map_err` on runs of programs that write into a folder.
    pub(super) fn tool_in(folder: &Path, operation: impl Into<String>) -> impl FnOnce(ProcessError) -> Self {
        move |source| Self::of_program(source, operation.into(), Some(folder))
    }

    /// For `map_err` on runs of programs.
    pub(super) fn tool(operation: impl Into<String>) -> impl FnOnce(ProcessError) -> Self {
        move |source| Self::of_program(source, operation.into(), None)
    }

    /// Cancellation and a full disk are told apart.
    fn of_program(source: ProcessError, operation: String, folder: Option<&Path>) -> Self {
        match &source {
            ProcessError::Cancelled { .. } => Self::Cancelled,
            error if error.lacks_space(folder) => Self::NoSpace { operation },
            ProcessError::Failed { tail, .. } => match refused(tail) {
                Some(error) => error,
                None => Self::Tool { operation, source },
            },
            _ => Self::Tool { operation, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_come_back_by_the_console() {
        let stopped = || GuestError::Stopped { what: "login", console: "+ TOKEN=hunter22".into() };
        let guest = || BuildError::Guest { operation: "reach the guest".into(), source: stopped() };
        let kept = BuildError::Kept { source: Box::new(guest()), login: "ssh".into() };
        for error in [guest(), kept] {
            let error = error.redacted(|text| text.replace("hunter22", "(redacted)"));
            let shown = format!("{error:?}");
            assert!(shown.contains("TOKEN=(redacted)") && !shown.contains("hunter22"), "{shown}");
        }
    }
}
