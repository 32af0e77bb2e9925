//! An image as a backend is to make it: what only that backend knows of it.

use std::error::Error;
use std::fmt;

use serde_json::Value;

use super::Backends;
use super::template::Mistake;
use crate::domain::{Distribution, ImageBuilder, ImageSpec, Labels};

/// Problems, each with the name of the attribute that it is about, dots between its parts.
pub type Problems = Vec<(String, String)>;

/// Who makes an image, and what only that backend needs to know for it.
pub trait Target: fmt::Debug + Send + Sync {
    /// What is impossible about this image.
    fn problems(&self, spec: &ImageSpec) -> Problems {
        let _ = spec;
        Vec::new()
    }

    /// What will be as asked for, and perhaps not as meant: for an image that is to be built.
    fn doubts(&self, spec: &ImageSpec) -> Problems {
        let _ = spec;
        Vec::new()
    }

    /// What is impossible about building it: no matter for an image that is there already.
    fn build_problems(&self, spec: &ImageSpec) -> Problems {
        let _ = spec;
        Vec::new()
    }

    /// What is impossible about what can change in place.
    fn label_problems(&self, labels: &Labels, distribution: &Distribution) -> Problems {
        let _ = (labels, distribution);
        Vec::new()
    }

    /// What the backend adds to the cache key.
    ///
    /// # Errors
    /// When something that the image is made of cannot be read.
    fn key_inputs(&self) -> Result<Value, KeyError>;

    /// Who builds it.
    fn builder(&self, backends: &Backends) -> Box<dyn ImageBuilder>;
}

/// Why there is no key.
#[derive(Debug)]
pub enum KeyError {
    /// A file on this computer cannot be read.
    Unreadable {
        /// The attribute that names it, dots between its parts.
        attribute: &'static str,
        /// In a few words.
        summary: &'static str,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Something is wrong with a template.
    Template(Vec<Mistake>),
}
