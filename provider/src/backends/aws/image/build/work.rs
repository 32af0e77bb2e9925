//! What a build and a later look at its image have in common: where they work, by which id, and until when.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use chrono::{DateTime, SecondsFormat, Utc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::backends::aws::image::AwsImageSpec;
use crate::backends::aws::region::Region;
use crate::backends::aws::tags;
use crate::process::{BuildLog, Runner};

/// Something that is in the journal, and makes things that carry its id.
pub(super) struct Work<'a> {
    pub(super) region: &'a Region,
    pub(super) spec: &'a AwsImageSpec,
    pub(super) runner: &'a Runner,
    pub(super) id: Uuid,
    /// Its own folder, private, and gone with it.
    pub(super) dir: &'a Path,
    pub(super) log: &'a BuildLog,
    /// What all that it makes carries.
    pub(super) tags: BTreeMap<String, String>,
    pub(super) cancel: &'a CancellationToken,
}

impl Work<'_> {
    /// Removes its folder.
    pub(super) fn remove_dir(&self) {
        if let Err(error) = std::fs::remove_dir_all(self.dir)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %self.dir.display(), %error, "a build's folder cannot be removed");
        }
    }
}

/// The tags, and the image's own from its first moment. Its key comes last, and not from here.
pub(super) fn tags_of(
    name: &str,
    own: &BTreeMap<String, String>,
    build: &str,
    deadline: &str,
) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([(tags::NAME.to_owned(), name.to_owned())]);
    all.extend(own.clone());
    let ours = [(tags::BUILD, build), (tags::DEADLINE, deadline)];
    all.extend(ours.map(|(key, value)| (key.to_owned(), value.to_owned())));
    all
}

/// When it must be over, as a tag says it.
pub(super) fn in_words(deadline: DateTime<Utc>) -> String {
    deadline.to_rfc3339_opts(SecondsFormat::Secs, true)
}
