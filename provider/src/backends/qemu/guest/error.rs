//! What goes wrong with guests.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::backends::qemu::host::HostError;
use crate::process::ProcessError;

use super::qmp::QmpError;
use super::spec::Protocol;
use crate::ssh::SshError;

/// Why a guest does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// Something is not installed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// There is no firmware to boot by UEFI.
    #[error(
        "no UEFI firmware without Secure Boot was found; install ovmf (x86_64) or qemu-efi-aarch64 (arm64)"
    )]
    NoFirmware,
    /// A file of the guest.
    #[error("could not {action} {}", path.display())]
    File {
        /// In words: "create", "read".
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// QEMU could not be run.
    #[error("could not run QEMU")]
    Process(#[from] ProcessError),
    /// Somebody else listens on the port.
    #[error("{} port {port} of 127.0.0.1 is in use; choose another host port, or leave it out to have one chosen", protocol.name())]
    PortInUse {
        /// TCP or UDP.
        protocol: Protocol,
        /// The host's port.
        port: u16,
    },
    /// The operating system keeps the port for root.
    #[error("{} port {port} of 127.0.0.1 may only be opened by root; choose a host port from 1024 on", protocol.name())]
    PortForbidden {
        /// TCP or UDP.
        protocol: Protocol,
        /// The host's port.
        port: u16,
    },
    /// QEMU refused to start.
    #[error("QEMU could not start the guest: {output}")]
    Refused {
        /// What it printed.
        output: String,
    },
    /// QEMU found no space for a file of the guest, or stopped it because its disk could not grow.
    #[error(
        "no space left for the guest's files in {}. Free some space there, or set `data_dir` to a folder on a larger disk",
        dir.display()
    )]
    DiskFull {
        /// The guest's folder.
        dir: PathBuf,
    },
    /// The guest went away while it was needed.
    #[error("the guest stopped while we waited for {what}; the end of its console:\n{console}")]
    Stopped {
        /// What was waited for.
        what: &'static str,
        /// The last lines of its serial line.
        console: String,
    },
    /// The guest's kernel gave up.
    #[error(
        "the guest's kernel panicked while we waited for {what}{}; the end of its console:\n{console}",
        if is_missing_clock(console) { NO_CLOCK } else { "" }
    )]
    Panicked {
        /// What was waited for.
        what: &'static str,
        /// The last lines of its serial line.
        console: String,
    },
    /// The guest does not come up.
    #[error("the guest did not come up: no {what} within {limit:?}; the end of its console:\n{console}")]
    NotUp {
        /// What was waited for.
        what: &'static str,
        /// The time that it had.
        limit: Duration,
        /// The last lines of its serial line.
        console: String,
    },
    /// The operation was cancelled.
    #[error("the guest was given up because the operation was cancelled")]
    Cancelled,
    /// The guest would not end.
    #[error("the QEMU process {pid} of the guest does not end")]
    Undead {
        /// Its process id.
        pid: i32,
    },
    /// QEMU's control socket.
    #[error("QEMU's control socket failed")]
    Qmp(#[from] QmpError),
    /// SSH to the guest.
    #[error(transparent)]
    Ssh(#[from] SshError),
}

/// What is said of a kernel that found no clock.
const NO_CLOCK: &str = ": this computer is too busy to emulate a clock that ticks in time. Apply again when it is less so, \
                        or have the image's kernel not check its clock: `no_timer_check` on its command line";

/// Whether Linux found that its timer's interrupts do not come (`check_timer()` in arch/x86/kernel/apic/io_apic.c): it waits
/// for ten ticks by the processor's clock, which goes on while QEMU's thread that makes them waits for its turn.
fn is_missing_clock(console: &str) -> bool {
    console.contains("IO-APIC + timer doesn't work")
}

impl GuestError {
    /// Whether the guest's kernel gave up for want of a clock. The next start is likely to have one.
    pub(super) fn is_missing_clock(&self) -> bool {
        matches!(self, Self::Panicked { console, .. } if is_missing_clock(console))
    }

    /// With what the guest printed as `redact` leaves it.
    pub(in crate::backends::qemu) fn redacted(self, redact: impl Fn(&str) -> String) -> Self {
        match self {
            Self::Stopped { what, console } => Self::Stopped { what, console: redact(&console) },
            Self::Panicked { what, console } => Self::Panicked { what, console: redact(&console) },
            Self::NotUp { what, limit, console } => Self::NotUp { what, limit, console: redact(&console) },
            other => other,
        }
    }

    /// For `map_err` on what touches a file.
    pub(in crate::backends::qemu) fn file(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}
