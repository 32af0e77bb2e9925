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

/// The size of a builder and a machine when the user does not say.
const INSTANCE_TYPE: &str = "t3.large";
/// The first user of the images that Canonical publishes.
const FIRST_USER: &str = "ubuntu";

/// The most tags that EC2 takes on one thing.
const MOST_TAGS: usize = 50;
/// What is left of them for our own on a machine and what is made for it: name, launch, deadline, instance.
const OUR_TAGS: usize = 4;

/// Checks the user's tags by EC2's rules and ours.
pub fn validate_tags(tags: &Attr<BTreeMap<String, String>>, diags: &mut Diagnostics) {
    for (key, value) in tags.known().into_iter().flatten() {
        if let Err(why) = tags::check(key, value) {
            diags.error(Path::from("tags").key(key), "Invalid tag", format!("In this tag {why}."));
        }
    }
}

/// Checks all that a machine gets: the user's tags, and the provider's `default_tags`.
pub fn validate_all_tags(all: &BTreeMap<String, String>, diags: &mut Diagnostics) {
    for (key, value) in all {
        if let Err(why) = tags::check(key, value) {
            let text =
                format!("In the tag {key:?}, the machine's own or of the provider's `default_tags`, {why}.");
            diags.error(Path::from("tags"), "Invalid tag", text);
        }
    }
    if all.len() + OUR_TAGS > MOST_TAGS {
        let text = format!(
            "EC2 takes {MOST_TAGS} tags on a machine. Here are {} with the provider's `default_tags`, and {OUR_TAGS} that Sindri needs itself.",
            all.len()
        );
        diags.error(Path::from("tags"), "Too many tags", text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_tags_of_a_machine_are_the_users() {
        let told = |all: BTreeMap<String, String>| {
            let mut diags = Diagnostics::new();
            validate_all_tags(&all, &mut diags);
            diags.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        let one = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let many = |count: usize| (0..count).map(|n| (format!("t{n}"), String::new())).collect();
        for (all, expected) in [
            (one("team", "a"), ""),
            (one("Name", "a"), ""),
            (one("sindri_vm", "x"), "`default_tags`"),
            (one("aws:x", "x"), "AWS's own"),
            (one("team", &"x".repeat(257)), "at most 256"),
            (many(46), ""),
            (many(47), "Too many tags"),
        ] {
            let told = told(all);
            assert!(told.contains(expected) && told.is_empty() == expected.is_empty(), "{expected}: {told}");
        }
    }
}
