//! `aws = { … }` as it stands in configuration and state: of the provider, of an image, and of a machine.

mod image;
mod provider;
mod vm;
mod words;

pub use image::{AwsImageModel, ShareModel, SourceFilterModel};
pub use provider::{AssumeRoleModel, AwsProviderModel};
pub use vm::{AwsVmModel, REPLACES, RootVolumeModel};

pub use super::settings::region;
