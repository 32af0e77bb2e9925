//! `aws = { … }` as it stands in configuration and state: of the provider, and of a machine.

mod provider;
mod vm;

pub use provider::{AssumeRoleModel, AwsProviderModel};
pub use vm::{AwsVmModel, REPLACES, RootVolumeModel};

pub use super::settings::region;
