//! AWS: images and instances by EC2's API.
//!
//! Nothing is loaded or asked before the first use. Knows no other backend and no resource.

mod client;
mod endpoint;
mod error;
mod identity;
pub mod image;
mod listing;
pub mod model;
mod permissions;
mod region;
mod retries;
mod settings;
pub mod sweep;
mod tags;
pub mod vm;

/// The backend's name in state.
pub const CLOUD: &str = "aws";

pub use client::Aws;
pub use error::AwsError;
pub use settings::{AssumeRole, AwsSettings};
