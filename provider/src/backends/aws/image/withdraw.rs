//! An image that is about to be deleted has its key taken off before it is looked at for the last time who holds it: whoever
//! comes later finds no key and waits, whoever came before is seen, and gets the key back. Cut off in between, the image counts
//! as what an overdue build left.

use aws_sdk_ec2::types::Image as Ami;
use chrono::{TimeDelta, Utc};
use uuid::Uuid;

use super::read;
use crate::backends::aws::region::Region;
use crate::backends::aws::sweep::over_by;
use crate::backends::aws::{AwsError, tags};
use crate::domain::Holder;

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

/// How many others hold an image in this moment; none when it is gone.
pub(in crate::backends::aws) async fn others(
    region: &Region,
    id: &str,
    holder: Option<&Holder>,
) -> Result<usize, AwsError> {
    let ami = region.fresh_image(id).await?;
    let holders = ami.iter().flat_map(read::holders);
    Ok(holders.filter(|other| Some(other) != holder).count())
}

/// Takes the key off an image that nobody else seems to hold, and tells how many others do. While somebody does, or nobody
/// can tell, the image has its key.
pub(in crate::backends::aws) async fn withdraw(
    region: &Region,
    ami: &Ami,
    key: &str,
    holder: Option<&Holder>,
) -> Result<usize, AwsError> {
    let id = ami.image_id().unwrap_or_default();
    take_off(region, ami, key).await?;
    let others = others(region, id, holder).await;
    match others {
        Ok(0) => {}
        Ok(_) => restore(region, id, key).await?,
        Err(_) => give_back(region, id, key).await,
    }
    others
}

/// Takes the key off. One that is gone has none.
async fn take_off(region: &Region, ami: &Ami, key: &str) -> Result<(), AwsError> {
    let id = ami.image_id().unwrap_or_default();
    let deadline = tags::in_words(over_by(Utc::now() + DELETING));
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

/// Puts it back after something else has failed, which is what is to be told.
pub(super) async fn give_back(region: &Region, id: &str, key: &str) {
    if let Err(error) = restore(region, id, key).await {
        tracing::warn!(image = id, %error, "the key of an image that stays cannot be put back");
    }
}

/// Puts it back.
pub(super) async fn restore(region: &Region, id: &str, key: &str) -> Result<(), AwsError> {
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
