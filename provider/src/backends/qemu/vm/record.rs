//! What is stored about a machine.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Port;
use crate::backends::qemu::{Arch, DiskFormat};

/// A machine as it was made and last changed. Lies in its folder as `machine.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The machine's id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// The image that it started from.
    pub image_id: String,
    /// The format of that image's disk, the overlay's backing file.
    pub image_format: DiskFormat,
    /// The guest's architecture.
    pub arch: Arch,
    /// Processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mb: u32,
    /// Ports by name.
    pub ports: BTreeMap<String, Port>,
    /// The port on 127.0.0.1 that leads to the SSH server; kept for the machine's life.
    pub ssh_port: u16,
    /// Who logs in.
    pub username: String,
    /// The private key that logs in, if there is one on this computer.
    pub private_key: Option<PathBuf>,
    /// The public key that lets the user in, until the machine has been started: from then on, who may log in is
    /// the guest's own affair.
    pub admit: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// The user's configuration, for a later import.
    pub inputs: serde_json::Value,
    /// Whether a state knows of it: a record without is what a killed create left.
    pub known: bool,
    /// When it was made.
    #[serde(default)]
    pub created_at: Option<DateTime<Utc>>,
}
