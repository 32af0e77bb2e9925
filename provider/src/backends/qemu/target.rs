//! An image on this computer as something that is to be made.

use serde_json::Value;

use super::{QemuImageSpec, image};
use crate::backends::{Backends, KeyError, Problems, Target};
use crate::domain::{ImageBuilder, ImageSpec};

impl Target for QemuImageSpec {
    fn problems(&self, spec: &ImageSpec) -> Problems {
        image::problems(self, spec)
    }

    fn doubts(&self, spec: &ImageSpec) -> Problems {
        image::doubts(self, spec)
    }

    fn build_problems(&self, spec: &ImageSpec) -> Problems {
        image::build_problems(self, spec)
    }

    fn key_inputs(&self) -> Result<Value, KeyError> {
        Self::key_inputs(self).map_err(|error| KeyError::Unreadable {
            attribute: "qemu.base",
            summary: "Base image cannot be read",
            source: Box::new(error),
        })
    }

    fn builder(&self, backends: &Backends) -> Box<dyn ImageBuilder> {
        Box::new(backends.local.builder(self.clone()))
    }
}
