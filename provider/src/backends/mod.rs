//! The backends, and the one place that matches on which of them is meant.

pub mod qemu;

use std::collections::BTreeMap;
use std::sync::Arc;

use qemu::vm::QemuVmSpec;
use qemu::{Local, QemuImageSpec, UnreadableBase};

use crate::domain::{ImageBackend, ImageBuilder, ImageSpec, VmBackend, VmLauncher};

/// Who makes an image, and what only that backend needs to know for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// This computer.
    Qemu(QemuImageSpec),
}

impl Target {
    /// What is impossible about this image, each with the attribute's name, dots between its parts.
    pub fn problems(&self, spec: &ImageSpec) -> Vec<(String, String)> {
        match self {
            Self::Qemu(qemu) => qemu::image::problems(qemu, spec),
        }
    }

    /// What the backend adds to the cache key.
    ///
    /// # Errors
    /// When a base image on this computer cannot be read.
    pub fn key_inputs(&self) -> Result<serde_json::Value, UnreadableBase> {
        match self {
            Self::Qemu(qemu) => qemu.key_inputs(),
        }
    }
}

/// Who runs a machine, and what only that backend needs to know for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VmTarget {
    /// This computer.
    Qemu(QemuVmSpec),
}

/// The backends as the provider's configuration sets them up.
#[derive(Debug, Clone)]
pub struct Backends {
    /// Tags that every object gets.
    pub default_tags: BTreeMap<String, String>,
    /// This computer.
    pub local: Arc<Local>,
}

impl Backends {
    /// The images of a cloud, by the name that `cloud` has in state.
    pub fn images(&self, cloud: &str) -> Option<Arc<dyn ImageBackend>> {
        match cloud {
            qemu::CLOUD => Some(Arc::clone(&self.local) as Arc<dyn ImageBackend>),
            _ => None,
        }
    }

    /// The machines of a cloud, by the name that `cloud` has in state.
    pub fn vms(&self, cloud: &str) -> Option<Arc<dyn VmBackend>> {
        match cloud {
            qemu::CLOUD => Some(Arc::clone(&self.local) as Arc<dyn VmBackend>),
            _ => None,
        }
    }

    /// Who launches machines for this target.
    pub fn launcher(&self, target: &VmTarget) -> Box<dyn VmLauncher> {
        match target {
            VmTarget::Qemu(spec) => Box::new(self.local.launcher(spec.clone())),
        }
    }

    /// Who builds images for this target.
    pub fn builder(&self, target: &Target) -> Box<dyn ImageBuilder> {
        match target {
            Target::Qemu(spec) => Box::new(self.local.builder(spec.clone())),
        }
    }
}
