//! What is removed at the end of a build, so that an image carries nothing of the machine that made it.

use super::{Task, Work};
use crate::domain::{Environment, Security};

const SYSTEM: &str = include_str!("../../../templates/scripts/clean.sh");
const HOST_KEYS: &str = include_str!("../../../templates/scripts/remove-host-keys.sh");

/// A script to be run as root in the image, after all steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cleanup {
    /// For the log.
    pub name: &'static str,
    /// Its text with its `#!` line.
    pub script: &'static str,
}

impl Cleanup {
    /// As a task that a backend runs like a step.
    pub fn task(self) -> Task {
        Task {
            name: self.name.to_owned(),
            work: Work::Script(self.script.to_owned()),
            environment: Environment::default(),
            user: None,
            timeout: None,
        }
    }
}

/// The scripts that clean an image, in order.
pub fn cleanup(security: Security) -> Vec<Cleanup> {
    let mut scripts = Vec::new();
    if security.clean_sensitive_data {
        scripts.push(Cleanup { name: "Removing logs, histories, caches and instance data", script: SYSTEM });
    }
    if security.remove_ssh_host_keys {
        scripts.push(Cleanup { name: "Removing SSH host keys", script: HOST_KEYS });
    }
    scripts
}
