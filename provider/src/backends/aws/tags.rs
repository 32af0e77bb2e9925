//! Tags: ours, which carry what we must find again, and the user's.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{ResourceType, Tag, TagSpecification};
use chrono::{DateTime, SecondsFormat, Utc};

use crate::domain::Holder;

/// What an image was built from: only complete images have it.
pub(super) const KEY: &str = "sindri_key";
/// Which launch made a machine, its volumes, key pair and security group: a UUID.
pub(super) const VM: &str = "sindri_vm";
/// The instance for which a key pair or security group was made.
pub(super) const INSTANCE: &str = "sindri_instance";
/// Which build made a thing: a UUID. All that it makes has it.
pub(super) const BUILD: &str = "sindri_build";
/// Which AMI a snapshot belongs to whose AMI is being deleted, and has no tags of ours.
pub(super) const IMAGE: &str = "sindri_image";
/// When that build will have ended, whatever becomes of it: a time as RFC 3339 has it. Complete images have none.
pub(super) const DEADLINE: &str = "sindri_deadline";
/// The key of an image that is just about to be deleted, which has none meanwhile: who claims it waits, and nobody finds it.
pub(super) const DELETING: &str = "sindri_deleting";
/// What the requested base turned out to be.
pub(super) const BASE: &str = "sindri_base";
/// How long the build took, in seconds.
pub(super) const BUILD_SECONDS: &str = "sindri_build_seconds";
/// What a machine from the image was looked through for: words, the last of them for an image that everybody may have.
pub(super) const LOOKED: &str = "sindri_looked";
/// Channels and holders have a tag each, after these prefixes.
pub(super) const CHANNEL: &str = "sindri_channel_";
/// See [`CHANNEL`].
pub(super) const HOLDER: &str = "sindri_holder_";
/// Copies of an image have a tag each: the region after this prefix, the copy's id as value.
pub(super) const COPY: &str = "sindri_copy_";
/// Regions whose copy is not ready yet have a tag each, after this prefix.
pub(super) const UNFINISHED: &str = "sindri_unfinished_";
/// Which image a copy is one of: region and id.
pub(super) const COPY_OF: &str = "sindri_copy_of";
/// The machine's name, where people see it.
pub(super) const NAME: &str = "Name";

/// The tag of a holder.
pub(super) fn held_by(holder: &Holder) -> (String, String) {
    (format!("{HOLDER}{holder}"), "held".to_owned())
}

/// The tag of a holder that no state knows yet: it counts until then.
pub(super) fn held_until(holder: &Holder, deadline: DateTime<Utc>) -> (String, String) {
    (held_by(holder).0, in_words(deadline))
}

/// A deadline as tags tell it.
pub(super) fn in_words(deadline: DateTime<Utc>) -> String {
    deadline.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// The tag of a channel.
pub(super) fn promoted_to(channel: &str) -> (String, String) {
    (format!("{CHANNEL}{channel}"), "promoted".to_owned())
}

/// Whether a tag is the user's: neither ours nor AWS's own.
pub(super) fn is_users(key: &str) -> bool {
    !key.starts_with("sindri_") && !key.starts_with("aws:")
}

/// Whether a copy gets a tag of its image: not who holds the image, nor where its copies are.
pub(super) fn is_copied(key: &str) -> bool {
    is_users(key) || [KEY, BASE, BUILD_SECONDS, BUILD].contains(&key) || key.starts_with(CHANNEL)
}

/// As a map.
pub(super) fn map(tags: &[Tag]) -> BTreeMap<String, String> {
    let pair = |tag: &Tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned()));
    tags.iter().filter_map(pair).collect()
}

/// As the API wants them.
pub(super) fn list<'a>(tags: impl IntoIterator<Item = (&'a String, &'a String)>) -> Vec<Tag> {
    tags.into_iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

/// Tags for what a request makes of one kind.
pub(super) fn specification(kind: ResourceType, tags: &BTreeMap<String, String>) -> TagSpecification {
    TagSpecification::builder().resource_type(kind).set_tags(Some(list(tags))).build()
}

/// What is wrong with a user's tag: AWS has rules, and so have we.
///
/// # Errors
/// What is wrong.
pub(super) fn check(key: &str, value: &str) -> Result<(), String> {
    if key.is_empty() || key.chars().count() > 128 {
        return Err("the key must have 1 to 128 characters".into());
    }
    if value.chars().count() > 256 {
        return Err("the value must have at most 256 characters".into());
    }
    if key.to_ascii_lowercase().starts_with("aws:") {
        return Err("keys that begin with \"aws:\" are AWS's own".into());
    }
    if key.starts_with("sindri_") {
        return Err("keys that begin with \"sindri_\" are this provider's own".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_gets_what_it_is_found_by() {
        for (key, copied) in [
            ("team", true),
            ("sindri_key", true),
            ("sindri_channel_production", true),
            ("sindri_holder_0123abcd", false),
            ("sindri_copy_eu-west-1", false),
            ("sindri_unfinished_eu-west-1", false),
            ("sindri_deadline", false),
            ("aws:x", false),
        ] {
            assert_eq!(is_copied(key), copied, "{key}");
        }
    }

    #[test]
    fn ours_and_awss_are_not_the_users() {
        for (key, users) in
            [("team", true), ("Name", true), ("sindri_vm", false), ("aws:autoscaling:x", false)]
        {
            assert_eq!(is_users(key), users, "{key}");
        }
        assert_eq!(check("team", "a"), Ok(()));
        let long = "x".repeat(257);
        for (key, value) in
            [("", "x"), (long.as_str(), "x"), ("a", long.as_str()), ("AWS:x", ""), ("sindri_key", "")]
        {
            assert!(check(key, value).is_err(), "{key}");
        }
    }
}
