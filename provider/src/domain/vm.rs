//! A machine, as any backend reports it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::vm_spec::{PowerState, VmSpec};

/// A machine as asked for. The launcher that gets it was made for one target and knows the rest.
#[derive(Debug, Clone)]
pub struct VmRequest {
    /// The same for every backend.
    pub spec: VmSpec,
    /// The image that it starts from.
    pub image_id: String,
    /// The user's configuration, for a later import.
    pub inputs: serde_json::Value,
}

/// The name under which a machine's SSH host key is recorded: machines share addresses, and addresses are used again.
pub fn host_key_alias(id: impl std::fmt::Display) -> String {
    format!("sindri-{id}")
}

/// A machine as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    /// The backend's own id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The image that it started from.
    pub image_id: String,
    /// Whether it runs.
    pub status: PowerState,
    /// The public address, where there is one.
    pub public_ip: Option<String>,
    /// The private address, where there is one.
    pub private_ip: Option<String>,
    /// Where SSH listens.
    pub ssh_host: String,
    /// On which port.
    pub ssh_port: u16,
    /// Who logs in.
    pub ssh_username: String,
    /// A command that logs in, quoted for a shell.
    pub ssh_command: String,
    /// The private key that logs in.
    pub ssh_private_key_path: Option<PathBuf>,
    /// A known-hosts file with its host key.
    pub known_hosts_path: Option<PathBuf>,
    /// What it prints on its console.
    pub console_log_path: Option<PathBuf>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}
