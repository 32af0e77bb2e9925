//! Provider functions: what other tools need to reach a machine, as text.
//!
//! Pure: they read what a `sindri_vm` has in state, and nothing else.

mod ansible_inventory;
mod connection;
mod ssh_config;

pub use ansible_inventory::AnsibleInventory;
pub use ssh_config::SshConfig;
