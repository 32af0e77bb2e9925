//! A machine, as any backend reports it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

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
    /// Keys of the tags that the state has managed until now: those that the spec lacks are to go, others are
    /// somebody else's.
    pub managed_tags: BTreeSet<String>,
    /// When a launch must be over. What is left of it later is anybody's to remove.
    pub deadline: DateTime<Utc>,
    /// The user's wish to stop. An operation's own token is cancelled when its time is over, too.
    pub stop: CancellationToken,
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
    /// Where in its cloud it is.
    pub region: String,
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
    /// Where SSH listens; none while the machine has no address.
    pub ssh_host: Option<String>,
    /// How one logs in; none where only the state knows.
    pub login: Option<VmLogin>,
    /// What it prints on its console; none where only the state knows.
    pub console_log_path: Option<PathBuf>,
    /// Its size, in the cloud's own word.
    pub size: Option<String>,
    /// Its tags, without those that are ours alone.
    pub tags: BTreeMap<String, String>,
    /// What is around it, where that was looked at.
    pub surroundings: Option<Surroundings>,
}

/// What a cloud says of a machine's surroundings, in its own words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Ports, and networks that reach them by the security group that was made for the machine; none where it has no such
    /// group.
    pub admitted: Option<BTreeSet<(u16, String)>>,
    /// All its security groups.
    pub security_groups: BTreeSet<String>,
    /// What gives it a role.
    pub instance_profile: Option<String>,
    /// Whether its metadata are given to session tokens only.
    pub tokens_required: Option<bool>,
}

/// How one logs in to a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmLogin {
    /// The port on which SSH listens.
    pub port: u16,
    /// Who logs in.
    pub username: String,
    /// The private key that logs in.
    pub private_key_path: Option<PathBuf>,
    /// A known-hosts file with the machine's host key.
    pub known_hosts_path: Option<PathBuf>,
}
