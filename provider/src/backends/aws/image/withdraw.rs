//! An image that is about to be deleted has its key taken off before it is looked at for the last time who holds it: whoever
//! comes later finds no key and waits, whoever came before is seen, and gets the key back. Cut off in between, the image counts
//! as what an overdue build left.

use aws_sdk_ec2::types::Image as Ami;
use chrono::{SecondsFormat, TimeDelta, Utc};
use uuid::Uuid;

use crate::backends::aws::region::Region;
use crate::backends::aws::sweep::over_by;
use crate::backends::aws::{AwsError, tags};

/// How long a deletion goes on.
const DELETING: TimeDelta = TimeDelta::hours(1);

/// The key of an image that is ours, whether it has it or had it taken off.
pub(super) fn key(ami: &Ami) -> Option<String> {
    let all = tags::map(ami.tags());
    all.get(tags::KEY).or_else(|| all.get(tags::DELETING)).cloned()
}

/// Whether the key is taken off.
pub(super) fn is_withdrawn(ami: &Ami) -> bool {
    let all = tags::map(ami.tags());
    all.contains_key(tags::DELETING) && !all.contains_key(tags::KEY)
}

/// Takes the key off. One that is gone has none.
pub(in crate::backends::aws) async fn withdraw(
    region: &Region,
    ami: &Ami,
    key: &str,
) -> Result<(), AwsError> {
    let id = ami.image_id().unwrap_or_default();
    let deadline = over_by(Utc::now() + DELETING).to_rfc3339_opts(SecondsFormat::Secs, true);
    let mut marks = vec![(tags::DELETING.to_owned(), key.to_owned()), (tags::DEADLINE.to_owned(), deadline)];
    if !tags::map(ami.tags()).contains_key(tags::BUILD) {
        marks.push((tags::BUILD.to_owned(), Uuid::new_v4().to_string()));
    }
    let done = async {
        region.tag([id], marks).await?;
        region.untag([id], [tags::KEY]).await
    };
    unless_gone(done.await)
}

/// Puts it back.
pub(in crate::backends::aws) async fn restore(region: &Region, id: &str, key: &str) -> Result<(), AwsError> {
    let done = async {
        region.tag([id], [(tags::KEY.to_owned(), key.to_owned())]).await?;
        region.untag([id], [tags::DELETING, tags::DEADLINE]).await?;
        region.fresh_image(id).await.map(drop)
    };
    unless_gone(done.await)
}

fn unless_gone(done: Result<(), AwsError>) -> Result<(), AwsError> {
    match done {
        Err(error) if error.is_gone() => Ok(()),
        other => other,
    }
}
