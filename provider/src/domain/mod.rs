//! What an image and a machine are, independent of who makes them.
//!
//! Knows no backend, no wire type and no HTTP client.

pub mod arch;
pub mod backend;
pub mod cache_key;
pub mod distribution;
pub mod error;
pub mod image;
pub mod image_spec;
pub mod made;
pub mod names;
pub mod prerequisite;
pub mod rules;
pub mod tagging;
pub mod template;
pub mod vm;
pub mod vm_spec;

pub use arch::Arch;
pub use backend::{
    BuildRequest, Built, Exists, ImageBackend, ImageBuilder, InputsChanged, LookRequest, Released, VmBackend,
    VmLauncher,
};
pub use cache_key::CacheKey;
pub use distribution::{Copies, Distribution, Share, ShareChange, Undistributed};
pub use error::{BackendError, causes, unless_cancelled, with_grace};
pub use image::{Artifact, Holder, Image, LabelChange, Labels};
pub use image_spec::{Action, Check, Environment, ImageSpec, OnError, Security, Step};
pub use made::{Heard, Keeper, Made, Seen};
pub use tagging::Tagging;
pub use template::{Origin, Template, TemplateRequest};
pub use vm::{Surroundings, Vm, VmLogin, VmRequest};
