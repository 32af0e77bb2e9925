//! A guest to be started, as a value: what machine it is, whatever host it runs on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use uuid::Uuid;

use crate::backends::qemu::{DiskFormat, Network};

/// A machine for QEMU. Paths are absolute, or relative to the guest's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestSpec {
    /// The machine's id, which also tells its process from all others.
    pub id: Uuid,
    /// Its name in process lists.
    pub name: String,
    /// Processors.
    pub cpus: u32,
    /// Memory, in MiB.
    pub memory_mb: u32,
    /// Its disks in order; UEFI boots the first.
    pub disks: Vec<Disk>,
    /// What it can reach.
    pub network: Network,
    /// What can reach it.
    pub forwards: Vec<Forward>,
    /// systemd credentials by name, handed over in SMBIOS strings. They show in QEMU's arguments: nothing
    /// secret belongs here.
    pub credentials: BTreeMap<String, String>,
    /// How long it lives.
    pub lifetime: Lifetime,
}

/// A disk of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Where it is.
    pub file: PathBuf,
    /// Never guessed: a guest could write another format's header into a raw disk.
    pub format: DiskFormat,
    /// Whether the guest may write.
    pub access: DiskAccess,
}

/// What a guest may do with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskAccess {
    /// Read only.
    ReadOnly,
    /// Write, and what it flushes survives the host's crash.
    Durable,
    /// Write without ever waiting for the host's disk: for disks that are thrown away after a crash.
    Fast,
}

/// A port of the host's loopback address that leads into the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The host's port; a free one is chosen when none is given.
    pub host: Option<u16>,
    /// The guest's port.
    pub guest: u16,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// How long a guest lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// No longer than the provider, however that ends: for builds and checks.
    WithProvider,
    /// Until it is stopped.
    Daemon,
}

impl Protocol {
    /// Its name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl Forward {
    /// To the guest's SSH server, from a port that is chosen.
    pub const SSH: Self = Self { protocol: Protocol::Tcp, host: None, guest: 22 };
}

impl GuestSpec {
    /// Lets a user in with this public key as soon as SSH is up, in guests with systemd 252 or later.
    #[must_use]
    pub fn admit(mut self, username: &str, public_key: &str) -> Self {
        self.credentials.extend(super::admission::credentials(username, public_key));
        self
    }
}
