//! What goes into an image, after every check of the configuration: nothing here is null or unknown.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::process::Secret;

/// An image as asked for, the same for every backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSpec {
    /// What the image's name begins with.
    pub name_prefix: String,
    /// For all steps.
    pub environment: Environment,
    /// What is done in the image, in order.
    pub steps: Vec<Step>,
    /// What is removed at the end.
    pub security: Security,
    /// What must hold in the finished image.
    pub checks: Vec<Check>,
    /// What to do with the guest of a failed build.
    pub on_error: OnError,
}

impl ImageSpec {
    /// All that must not be printed.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let of_steps = self.steps.iter().map(|step| &step.environment);
        std::iter::once(&self.environment).chain(of_steps).flat_map(|environment| environment.secret.values())
    }
}

/// Variables that a step sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// Plain ones.
    pub plain: BTreeMap<String, String>,
    /// Ones that are never printed nor stored.
    pub secret: BTreeMap<String, Secret>,
}

/// One provisioning step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// Beside the environment for all steps; wins over it.
    pub environment: Environment,
    /// Who runs it; root when none is named.
    pub user: Option<String>,
    /// The longest time that it may take.
    pub timeout: Option<Duration>,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Lines for `/bin/sh -eu`, run as one script.
    Inline(Vec<String>),
    /// A script with its own `#!` line (or `/bin/sh`).
    Script {
        /// What a message calls it: the path as the user wrote it, or "content".
        name: String,
        /// The script as it was at plan.
        content: String,
    },
    /// A file or a folder (with its content) copied into the image.
    Upload {
        /// On the host.
        source: PathBuf,
        /// In the image: an absolute path.
        destination: String,
        /// Permission bits; the source's when none are given.
        mode: Option<u32>,
        /// `user` or `user:group`; root when none is given.
        owner: Option<String>,
    },
    /// Restarts the guest and waits for it. Only in a booted guest.
    Reboot,
}

/// What is removed at the end of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Security {
    /// Logs, histories, caches, instance data, machine id.
    pub clean_sensitive_data: bool,
    /// The SSH host keys, so that no two machines share them.
    pub remove_ssh_host_keys: bool,
}

/// A command that must succeed in the finished image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What a message calls it.
    pub name: String,
    /// For `/bin/sh -c`, as root.
    pub command: String,
}

/// What to do with the guest of a failed build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// Remove it.
    Cleanup,
    /// Leave it for a look.
    Keep,
}
