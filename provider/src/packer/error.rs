//! What goes wrong with Packer, in words that say what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Version;
use crate::process::lock::Busy;
use crate::process::{ProcessError, full_disk};

/// Why there is no Packer to be used.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// It is not there.
    #[error(
        "{looked_for} is not installed or not in PATH. Install Packer {} or later \
         (https://developer.hashicorp.com/packer/install), or say where it is: `packer = {{ binary = \"…\" }}` in the \
         provider's configuration, or PACKER_BIN in the environment",
        Version::OLDEST
    )]
    Missing {
        /// As the user wrote it, or `packer`.
        looked_for: String,
    },
    /// It is older than what can be driven.
    #[error("{} is Packer {found}, and {} or later is needed: install a newer one", program.display(), Version::OLDEST)]
    TooOld {
        /// Where.
        program: PathBuf,
        /// Its version.
        found: Version,
    },
    /// It does not answer.
    #[error(
        "{} did not tell its version within {limit:?}: run `{} version` by hand to see what it waits for",
        program.display(), program.display()
    )]
    Hung {
        /// Where.
        program: PathBuf,
        /// The time that it had.
        limit: Duration,
    },
    /// Another program of that name, such as cracklib's.
    #[error(
        "{} is another program than HashiCorp's Packer: its `version` says {said:?}. Say where Packer is: \
         `packer = {{ binary = \"…\" }}` in the provider's configuration, or PACKER_BIN in the environment",
        program.display()
    )]
    NotPacker {
        /// Where.
        program: PathBuf,
        /// Its first line.
        said: String,
    },
    /// Something killed it.
    #[error(
        "{} was killed by signal {signal} when asked for its version: it may be made for another processor, or this \
         computer be out of memory",
        program.display()
    )]
    Killed {
        /// Where.
        program: PathBuf,
        /// By which.
        signal: i32,
    },
    /// It could not be run.
    #[error("{} could not be asked for its version", program.display())]
    Process {
        /// Where.
        program: PathBuf,
        /// Why.
        #[source]
        source: ProcessError,
    },
}

/// Why Packer did not build.
#[derive(Debug, thiserror::Error)]
pub enum PackerError {
    /// There is none to be used.
    #[error(transparent)]
    Locate(#[from] LocateError),
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
    /// Our own template cannot be rendered.
    #[error("the template for Packer cannot be rendered")]
    Template(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Packer could not be run, was cancelled, or took too long.
    #[error("could not run Packer")]
    Process(#[from] ProcessError),
    /// Somebody else was getting some until the build was cancelled.
    #[error("could not get Packer's plugins")]
    Busy(#[source] Busy),
    /// Plugins could not be had.
    #[error(
        "`packer init` could not get the plugins that are needed:\n{output}\nWithout a network, set `packer = {{ \
         plugin_dir = \"…\", skip_init = true }}` in the provider's configuration, with the plugins in that folder"
    )]
    Init {
        /// What it said.
        output: String,
    },
    /// The template, or a value in it, is not what this Packer takes.
    #[error("Packer {version} ({}) does not accept the build:\n{output}", program.display())]
    Invalid {
        /// Where it is.
        program: PathBuf,
        /// Its version.
        version: Version,
        /// What it said.
        output: String,
    },
    /// There is no template for it.
    #[error("there is no template for this Packer")]
    NoForm,
    /// The build failed.
    #[error("Packer's build failed: {reason}{}", last_lines(.tail))]
    Build {
        /// What Packer says of it.
        reason: String,
        /// The failing step's own last lines.
        tail: String,
        /// Whether Packer stopped that step at its time limit.
        late: bool,
    },
    /// A disk of this computer is full.
    #[error(
        "the disk with {} is full: free some space, or use another one (`TMPDIR` in the environment, `data_dir` in the \
         provider's configuration)",
        path.display()
    )]
    NoSpace {
        /// A folder on it.
        path: PathBuf,
        /// What failed.
        #[source]
        source: Box<PackerError>,
    },
    /// Packer ended as if all were well, and made nothing.
    #[error("Packer ended without an error, and without an artifact")]
    NoArtifact,
    /// Packer made more than one thing where one was asked for.
    #[error("Packer made {} artifacts where one was expected: {}", ids.len(), ids.join(", "))]
    SeveralArtifacts {
        /// Their ids.
        ids: Vec<String>,
    },
    /// Packer says that it made a file that is not there.
    #[error("Packer says that it made {}, and there is no such file", path.display())]
    Absent {
        /// The file.
        path: PathBuf,
    },
}

fn last_lines(lines: &str) -> String {
    if lines.is_empty() { String::new() } else { format!("; the step's last lines were:\n{lines}") }
}

impl PackerError {
    /// For `map_err` on file operations.
    pub fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source }
    }

    /// Names the disk, where one with these folders is full and Packer says that there is no space: the guest's may be meant,
    /// too.
    pub(super) fn naming_a_full_disk(self, folders: &[&Path]) -> Self {
        let full = match &self {
            Self::Build { reason, tail, .. } => {
                full_disk(reason, folders).or_else(|| full_disk(tail, folders))
            }
            Self::Init { output } | Self::Invalid { output, .. } => full_disk(output, folders),
            _ => None,
        };
        match full {
            Some(path) => Self::NoSpace { path: path.to_owned(), source: Box::new(self) },
            None => self,
        }
    }

    /// Whether it is not known what Packer told.
    pub fn is_unread(&self) -> bool {
        matches!(self, Self::Process(ProcessError::Unread { .. }))
    }

    /// Whether the user asked to stop.
    pub fn is_cancelled(&self) -> bool {
        let cancelled = |error: &ProcessError| matches!(error, ProcessError::Cancelled { .. });
        match self {
            Self::Process(source) | Self::Locate(LocateError::Process { source, .. }) => cancelled(source),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `acceptance-tests` has one that is full.
    #[test]
    fn a_disk_with_space_is_not_the_one_that_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let reason = "write /tmp/x: no space left on device".to_owned();
        let error = PackerError::Build { reason, tail: String::new(), late: false };
        let error = error.naming_a_full_disk(&[dir.path(), Path::new("/no/such")]);
        assert!(matches!(error, PackerError::Build { .. }), "{error:?}");
    }
}
