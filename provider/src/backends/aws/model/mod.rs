//! `aws = { … }` as it stands in configuration and state: of the provider, of an image, and of a machine.

mod image;
mod provider;
mod vm;
mod words;

#[cfg(test)]
pub(super) use image::with_text;
pub use image::{AwsImageModel, CONTENT, ShareModel, SourceFilterModel};
pub use provider::{AssumeRoleModel, AwsProviderModel};
pub use vm::{AwsVmModel, RootVolumeModel};

pub use super::settings::region;

use std::collections::BTreeMap;

use tfplugin::{Attr, Diagnostics, Path};

use super::tags;

/// Checks the user's tags by EC2's rules and ours.
pub fn validate_tags(tags: &Attr<BTreeMap<String, String>>, diags: &mut Diagnostics) {
    for (key, value) in tags.known().into_iter().flatten() {
        if let Err(why) = tags::check(key, value) {
            diags.error(Path::from("tags").key(key), "Invalid tag", format!("In this tag {why}."));
        }
    }
}
