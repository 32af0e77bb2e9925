//! A finished image, as any backend reports it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{CacheKey, Made};

/// An image that is complete: built, verified and findable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The backend's own id: `ami-…`, a resource id, the build's UUID in the local store.
    pub id: String,
    /// The image's name in the backend.
    pub name: String,
    /// What it was built from; none for an image that we did not build.
    pub key: Option<CacheKey>,
    /// What there is of it, by region.
    pub artifacts: BTreeMap<String, Artifact>,
    /// Regions whose copy is not ready yet: still being made, or not shared and aged like the image.
    pub unfinished: BTreeSet<String>,
    /// What can change without a rebuild.
    pub labels: Labels,
    /// What the requested base turned out to be.
    pub resolved_base: Option<String>,
    /// When it was finished.
    pub created_at: DateTime<Utc>,
    /// How long the build took, in seconds.
    pub build_seconds: Option<u64>,
    /// Bytes that it takes up where it is stored.
    pub size_bytes: u64,
    /// The log of the build, when it was built here.
    pub log_path: Option<PathBuf>,
    /// The disk, for images that are files on this host.
    pub disk: Option<DiskFile>,
    /// What Packer made of a user's own template, and is still there.
    pub made: Vec<Made>,
}

impl Image {
    /// What the name was made from; all of it where no build made it.
    pub fn prefix(&self) -> &str {
        self.key.as_ref().and_then(|key| prefix_of(&self.name, key)).unwrap_or(&self.name)
    }
}

/// What a build's image is called: prefix, first 12 digits of the cache key, 6 of the build's id.
pub fn name_of(prefix: &str, key: &CacheKey, build: Uuid) -> String {
    format!("{prefix}-{}-{}", key.short(), &build.simple().to_string()[..6])
}

/// The prefix from which [`name_of`] made a name.
pub fn prefix_of<'a>(name: &'a str, key: &CacheKey) -> Option<&'a str> {
    name.rsplit_once(&format!("-{}-", key.short())).map(|(prefix, _)| prefix)
}

/// One region's copy of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// The image's id in the region.
    pub image_id: String,
    /// Snapshots that belong to it and are deleted with it.
    pub snapshot_ids: Vec<String>,
    /// When it ages, where the backend has such a thing.
    pub deprecated_at: Option<DateTime<Utc>>,
}

/// An image's disk as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskFile {
    /// Where it is.
    pub path: PathBuf,
    /// QEMU's name of its format.
    pub format: String,
    /// Of the file's bytes as they are now, 64 lower-case hex digits.
    pub sha256: String,
    /// Whether the bytes are still those that were built.
    pub intact: bool,
}

/// What can change without a rebuild.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// For people.
    pub description: Option<String>,
    /// The user's own and the provider's default ones.
    pub tags: BTreeMap<String, String>,
    /// What the image is promoted to.
    pub channels: BTreeSet<String>,
}

/// A change of labels that leaves alone what others put on a shared image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelChange {
    /// The new description, when it changes.
    pub description: Option<Option<String>>,
    /// Tags to be set.
    pub set_tags: BTreeMap<String, String>,
    /// Tags to be removed.
    pub remove_tags: BTreeSet<String>,
    /// Channels to be added.
    pub add_channels: BTreeSet<String>,
    /// Channels to be removed.
    pub remove_channels: BTreeSet<String>,
    /// Regions whose copies stay as they are: they are about to go.
    pub leaves: BTreeSet<String>,
}

impl LabelChange {
    /// What leads from one managing resource's labels to its new ones.
    pub fn between(prior: &Labels, planned: &Labels) -> Self {
        let set = planned.tags.iter().filter(|(key, value)| prior.tags.get(*key) != Some(value));
        let removed = prior.tags.keys().filter(|key| !planned.tags.contains_key(*key));
        Self {
            description: (prior.description != planned.description).then(|| planned.description.clone()),
            set_tags: set.map(|(key, value)| (key.clone(), value.clone())).collect(),
            remove_tags: removed.cloned().collect(),
            add_channels: planned.channels.difference(&prior.channels).cloned().collect(),
            remove_channels: prior.channels.difference(&planned.channels).cloned().collect(),
            leaves: BTreeSet::new(),
        }
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Self { leaves: self.leaves.clone(), ..Self::default() }
    }

    /// Makes the change.
    pub fn apply(&self, labels: &mut Labels) {
        if let Some(description) = &self.description {
            labels.description.clone_from(description);
        }
        labels.tags.retain(|key, _| !self.remove_tags.contains(key));
        labels.tags.extend(self.set_tags.clone());
        labels.channels.retain(|channel| !self.remove_channels.contains(channel));
        labels.channels.extend(self.add_channels.iter().cloned());
    }
}

/// One managing resource's claim on an image: 8 hex digits, made at random when the resource is created.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Holder(String);

impl Holder {
    /// A fresh one.
    pub fn random() -> Self {
        Self(Uuid::new_v4().simple().to_string()[..8].to_owned())
    }

    /// One that was written down earlier; none when it is not 8 lower-case hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 8 && text.bytes().all(hex)).then(|| Self(text.to_owned()))
    }
}

impl TryFrom<String> for Holder {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} is no holder: 8 lower-case hex digits"))
    }
}

impl From<Holder> for String {
    fn from(holder: Holder) -> Self {
        holder.0
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(description: Option<&str>, tags: &[(&str, &str)], channels: &[&str]) -> Labels {
        Labels {
            description: description.map(str::to_owned),
            tags: tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            channels: channels.iter().map(|channel| (*channel).to_owned()).collect(),
        }
    }

    #[test]
    fn a_change_leaves_others_labels_alone() {
        let prior = labels(Some("old"), &[("keep", "1"), ("change", "1"), ("drop", "1")], &["dev"]);
        let planned = labels(None, &[("keep", "1"), ("change", "2"), ("add", "1")], &["prod"]);
        let mut shared = labels(
            Some("old"),
            &[("keep", "1"), ("change", "1"), ("drop", "1"), ("theirs", "1")],
            &["dev", "theirs"],
        );
        LabelChange::between(&prior, &planned).apply(&mut shared);
        let tags = [("keep", "1"), ("change", "2"), ("add", "1"), ("theirs", "1")];
        assert_eq!(shared, labels(None, &tags, &["prod", "theirs"]));
        assert!(LabelChange::between(&planned, &planned).is_empty());
    }

    #[test]
    fn a_name_tells_its_prefix() {
        let key = CacheKey::try_from("0123456789ab".repeat(6)[..63].to_owned()).unwrap();
        let build = Uuid::from_u128(0xabcd_ef01 << 96);
        for prefix in ["web", "a-b", "x-0123456789ab-y", "é"] {
            let name = name_of(prefix, &key, build);
            assert_eq!(name, format!("{prefix}-0123456789ab-abcdef"));
            assert_eq!(prefix_of(&name, &key), Some(prefix));
        }
        assert_eq!(prefix_of("web-0123456789ac-abcdef", &key), None);
    }

    #[test]
    fn a_holder_is_8_hex_digits() {
        let holder = Holder::random();
        assert_eq!(Holder::parse(&holder.to_string()), Some(holder));
        for bad in ["", "1234567", "123456789", "ABCDEF01", "../../..", "1234567g"] {
            assert_eq!(Holder::parse(bad), None, "{bad}");
        }
    }
}
