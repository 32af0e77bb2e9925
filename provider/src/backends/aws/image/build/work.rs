//! What a build and a later look at its image have in common: where they work, by which id, and until when.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::backends::aws::image::AwsImageSpec;
use crate::backends::aws::region::Region;
use crate::backends::aws::sweep::How;
use crate::backends::aws::{Aws, tags};
use crate::domain::causes;
use crate::journal::Record;
use crate::process::{BuildLog, Runner, private};

/// How long a build that failed may take to remove what it made. What stays is in the journal.
const CLEANING: Duration = Duration::from_secs(5 * 60);

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
        private::remove_build_dir(self.dir);
    }
}

/// Removes what carries the id in an entry, but not an image that is complete, or only lacks its tags.
pub(super) async fn settle(aws: &Aws, record: Record, log: &BuildLog) {
    // Not the request's own: cancelled or late, it is to clean up all the same.
    let never = CancellationToken::new();
    let settled = aws.settle(record, How::Really, &never);
    let told = match tokio::time::timeout(CLEANING, settled).await {
        Ok(Ok(_)) => return,
        Ok(Err(error)) => causes(&error),
        Err(_) => format!("AWS did not let go of it within {CLEANING:?}"),
    };
    log.step(&format!(
        "What is left of the build cannot be removed yet: {told}\nThe next build removes it, or `terraform-provider-sindri sweep`"
    ));
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
