//! What goes wrong with machines.

use std::io;
use std::path::{Path, PathBuf};

use crate::backends::qemu::guest::GuestError;
use crate::backends::qemu::host::HostError;
use crate::domain::BackendError;
use crate::process::lock::Busy;
use crate::process::{ProcessError, Redactor};
use crate::ssh::SshError;

use super::files::Folder;
use super::status::{forwards, running};
use super::{Protocol, Record};

/// Why a machine is not as asked for.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// It is not there.
    #[error("there is no machine {id}")]
    NotFound {
        /// As asked for.
        id: String,
    },
    /// Its record cannot be read as what we write.
    #[error("the record of the machine is damaged ({path}); replace or destroy the machine")]
    Corrupt {
        /// The machine.
        id: String,
        /// The damaged file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// What a program says of its disk cannot be read.
    #[error("cannot tell the size of {path}")]
    UnknownSize {
        /// The disk.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A file or folder of the machine.
    #[error("cannot {action} {path}")]
    File {
        /// A verb: "read", "write".
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another apply worked on the machine until the wait for it was cancelled.
    #[error(transparent)]
    Busy(Busy),
    /// The wait for the guest to end was cancelled.
    #[error("waiting for the machine to stop was cancelled")]
    Cancelled,
    /// A disk that is asked for to be smaller than what is in it.
    #[error(
        "the disk has {have_gb} GiB and cannot shrink to {want_gb}; set `disk_size_gb` to at least {have_gb}"
    )]
    DiskTooSmall {
        /// What there is, rounded up.
        have_gb: u64,
        /// What is asked for.
        want_gb: u32,
    },
    /// One of the user's ports is taken.
    #[error("port {port} of 127.0.0.1 is in use{}", in_use(name.as_deref(), holder.as_ref()))]
    PortInUse {
        /// Its name in `ports`; none for the port of SSH.
        name: Option<String>,
        /// The host's port.
        port: u16,
        /// Which other machine of ours has it.
        holder: Option<Holder>,
    },
    /// One of the user's ports is for root.
    #[error("port {port} of 127.0.0.1 may only be opened by root; choose a `host` port from 1024 on")]
    PortForbidden {
        /// Its name in `ports`.
        name: String,
        /// The host's port.
        port: u16,
    },
    /// QEMU is not there.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The guest.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// Its keys.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// A program that found no space.
    #[error("cannot {action} in {}", dir.display())]
    NoSpace {
        /// What it was to do.
        action: &'static str,
        /// The machine's folder.
        dir: PathBuf,
        /// In the system's words.
        #[source]
        source: io::Error,
    },
    /// A program.
    #[error("cannot {action}{}", said(source))]
    Tool {
        /// What it was to do.
        action: &'static str,
        /// Why not.
        #[source]
        source: ProcessError,
    },
    /// The guest did not come up before the user, or the time that the user gave, ended the wait.
    #[error("the wait for the guest was ended before it was up; the end of its console:\n{console}")]
    NotUp {
        /// The last lines of its serial line.
        console: String,
    },
    /// Nobody gave us a key to ask cloud-init with.
    #[error(
        "waiting for cloud-init needs a login; set `ssh.private_key_path` beside `ssh.public_key`, or wait for \"ssh\""
    )]
    NoPrivateKey,
    /// cloud-init says that it failed.
    #[error("cloud-init failed in the guest (exit code {code}):\n{output}")]
    CloudInit {
        /// Its exit code.
        code: i32,
        /// What it printed.
        output: String,
    },
}

/// A machine that has a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    id: String,
    name: String,
}

impl Holder {
    /// The machine that runs with this port, but for the one in this folder.
    async fn find(folder: &Folder, protocol: Protocol, port: u16) -> Option<Self> {
        for (other, record) in folder.others() {
            let has = forwards(&record).iter().any(|it| (it.protocol, it.host) == (protocol, Some(port)));
            if has && running(&other, &record).await.is_some() {
                return Some(Self { id: other.id().to_owned(), name: record.name });
            }
        }
        None
    }
}

/// What a program that failed printed.
fn said(error: &ProcessError) -> String {
    match error {
        ProcessError::Failed { tail, .. } if !tail.trim().is_empty() => format!(": {}", tail.trim()),
        _ => String::new(),
    }
}

/// By whom a port is used, and what to do.
fn in_use(name: Option<&str>, holder: Option<&Holder>) -> String {
    match (name, holder) {
        (Some(_), Some(Holder { id, name })) => format!(
            " by the machine {name:?} ({id}) of this computer: choose another `host` port, or destroy that machine. If no state has it, import it as \"qemu/{id}\" first, or run `terraform-provider-sindri sweep --vm {id}`"
        ),
        (Some(_), None) => "; choose another `host` port or end what listens there".to_owned(),
        (None, _) => {
            ", and so were others that were tried for the machine's SSH server: apply again".to_owned()
        }
    }
}

impl VmError {
    /// Without what is written only in what the machine printed.
    pub(super) fn redacted(self, redactor: &Redactor) -> Self {
        match self {
            Self::NotUp { console } => Self::NotUp { console: redactor.redact(&console) },
            Self::CloudInit { code, output } => Self::CloudInit { code, output: redactor.redact(&output) },
            Self::Guest(error) => Self::Guest(error.redacted(|text| redactor.redact(text))),
            other => other,
        }
    }

    /// For `map_err` on what touches a file.
    pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }

    /// A port that cannot be had, told apart by the machine's own names for ports.
    pub(super) async fn starting(error: GuestError, record: &Record, folder: &Folder) -> Self {
        let name = |port, protocol| {
            let named = record.ports.iter().find(|(_, it)| it.host == port && it.protocol == protocol);
            named.map(|(name, _)| name.clone())
        };
        match error {
            GuestError::PortInUse { port, protocol } => {
                let holder = Holder::find(folder, protocol, port).await;
                Self::PortInUse { name: name(port, protocol), port, holder }
            }
            GuestError::PortForbidden { port, protocol } => {
                Self::PortForbidden { name: name(port, protocol).unwrap_or_default(), port }
            }
            other => other.into(),
        }
    }

    /// As the resource sees it; `operation` says what was going on.
    pub(super) fn into_backend(self, operation: &str) -> BackendError {
        let problem = self.to_string();
        match self {
            Self::NotFound { id } => BackendError::NotFound { kind: "machine", id },
            Self::Corrupt { ref id, .. } => {
                BackendError::Damaged { id: format!("machine {id}"), source: Box::new(self) }
            }
            Self::Cancelled | Self::Guest(GuestError::Cancelled) => {
                BackendError::Cancelled { operation: operation.to_owned() }
            }
            Self::Host(HostError::NoEmulator { foreign: true, .. }) => {
                BackendError::Refused { attribute: "qemu.arch".into(), problem }
            }
            Self::DiskTooSmall { .. } => {
                BackendError::Refused { attribute: "qemu.disk_size_gb".into(), problem }
            }
            Self::PortInUse { name: Some(name), .. } | Self::PortForbidden { name, .. } => {
                BackendError::Refused { attribute: format!("qemu.ports.{name}.host"), problem }
            }
            other => BackendError::failed(operation, other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::causes;
    use crate::process::Secret;

    #[test]
    fn what_is_written_only_does_not_come_back() {
        let redactor = Redactor::new([&Secret::new("hunter22")]);
        let console = || "cloud-init: no user hunter22".to_owned();
        let (what, limit) = ("login over SSH", Duration::ZERO);
        for error in [
            VmError::NotUp { console: console() },
            VmError::CloudInit { code: 1, output: console() },
            GuestError::NotUp { what, limit, console: console() }.into(),
            GuestError::Stopped { what, console: console() }.into(),
            GuestError::Panicked { what, console: console() }.into(),
        ] {
            let shown = causes(&error.redacted(&redactor).into_backend("launching machine it"));
            assert!(shown.contains("no user (redacted)") && !shown.contains("hunter22"), "{shown}");
        }
    }

    #[test]
    fn a_missing_emulator_is_about_the_architecture_where_that_is_another() {
        let missing = |foreign| {
            let (program, hint) = ("qemu-system-aarch64", "install it, or set `arch`".to_owned());
            VmError::from(HostError::NoEmulator { program, hint, foreign })
                .into_backend("launching machine it")
        };
        let told = missing(true);
        let BackendError::Refused { attribute, problem } = &told else { panic!("{told:?}") };
        assert_eq!(attribute, "qemu.arch");
        assert!(problem.contains("qemu-system-aarch64") && problem.contains("set `arch`"), "{problem}");
        assert!(matches!(missing(false), BackendError::Failed { .. }));
    }
}
