//! What a machine is to be, after every check of the configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::process::Secret;

/// A machine as asked for, the same for every backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmSpec {
    /// Its name, also its host name.
    pub name: String,
    /// Whether it is to run.
    pub power_state: PowerState,
    /// What cloud-init reads at first boot.
    pub user_data: Option<Secret>,
    /// Whether that is more than everybody may read who reads the state.
    pub user_data_is_secret: bool,
    /// Who may log in.
    pub ssh: SshAccess,
    /// What a launch waits for.
    pub wait_for: WaitFor,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// Whether a machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerState {
    /// It does.
    Running,
    /// It does not.
    Stopped,
}

/// Who may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshAccess {
    /// The user.
    pub username: String,
    /// The user's own key, in OpenSSH's format; a fresh pair is made when there is none.
    pub public_key: Option<String>,
    /// The private key that belongs to it, on this computer.
    pub private_key_path: Option<PathBuf>,
    /// Where SSH is reached, when that is not the machine's own address.
    pub host: Option<String>,
    /// The port there, when it is not the usual one.
    pub port: Option<u16>,
}

/// What a launch waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitFor {
    /// The SSH server's banner.
    Ssh,
    /// The end of cloud-init.
    CloudInit,
    /// Nothing.
    None,
}
