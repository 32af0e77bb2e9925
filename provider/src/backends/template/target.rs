//! A template as something that an image is made of.

use serde_json::Value;

use super::TemplateSpec;
use crate::backends::{Backends, KeyError, Target};
use crate::domain::ImageBuilder;

impl Target for TemplateSpec {
    fn key_inputs(&self) -> Result<Value, KeyError> {
        Self::key_inputs(self).map_err(KeyError::Template)
    }

    fn builder(&self, backends: &Backends) -> Box<dyn ImageBuilder> {
        Box::new(backends.templates.builder(self.clone()))
    }
}
