//! What only the local backend understands of a machine.

use std::collections::BTreeMap;

use super::Protocol;
use crate::backends::qemu::Arch;
use crate::backends::qemu::guest::Forward;

/// A machine's shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuVmSpec {
    /// The guest's architecture.
    pub arch: Arch,
    /// Processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mb: u32,
    /// The disk's size in GiB; the image's own when none is given.
    pub disk_size_gb: Option<u32>,
    /// Ports that are reachable on this computer's loopback address, by name.
    pub ports: BTreeMap<String, Port>,
}

/// A port of the machine that is reachable on this computer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Port {
    /// In the machine.
    pub guest: u16,
    /// On 127.0.0.1.
    pub host: u16,
    /// What it speaks.
    pub protocol: Protocol,
}

impl Port {
    /// As the guest's network has it.
    pub(super) fn forward(self) -> Forward {
        Forward { protocol: self.protocol, host: Some(self.host), guest: self.guest }
    }
}
