//! The snapshots of an AMI that is to go, or is gone: whose they are, marking them, deleting them.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_ec2::types::{Image as Ami, ImageState, Snapshot};
use chrono::{TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{DeleteError, Pauses, is_deregistered};
use crate::backends::aws::image::read;
use crate::backends::aws::region::{self, Region, filter, tag_filter};
use crate::backends::aws::sweep::over_by;
use crate::backends::aws::{AwsError, tags};

/// What EC2 says of a snapshot that an AMI uses, and for a while also of one whose AMI was just deregistered.
const IN_USE: &str = "InvalidSnapshot.InUse";
/// What it says of one that another service of AWS keeps.
const KEPT: &str = "OperationNotPermitted";

/// How long EC2 may take a snapshot for used by an AMI that is gone.
pub(super) const LAGGING: Duration = Duration::from_secs(60);
/// How long a deletion goes on.
const DELETING: TimeDelta = TimeDelta::hours(1);
/// How long an AMI that is still being made is waited for. Deregistered earlier, its snapshots come up later.
const UNREADY: Duration = Duration::from_secs(2 * 60);

/// Snapshots of which EC2 says that they were made for an AMI, or that we marked before we deregistered it.
pub(in crate::backends::aws::image) async fn of_untagged(
    region: &Region,
    id: &str,
) -> Result<BTreeSet<String>, AwsError> {
    let mut all = ids(&made_for(region, id).await?);
    all.extend(ids(&region::snapshots(&region.ec2, tag_filter(tags::IMAGE, [id])).await?));
    Ok(all)
}

/// Those snapshots, which nobody uses. What others use is left to them, when their image goes.
pub(in crate::backends::aws::image) async fn remaining(
    region: &Region,
    id: &str,
) -> Result<BTreeSet<String>, AwsError> {
    let made = made_for(region, id).await?;
    let is_ours =
        |one: &Snapshot| [tags::KEY, tags::BUILD].iter().any(|key| tags::map(one.tags()).contains_key(*key));
    Ok(ids(made.iter().filter(|one| is_ours(one))))
}

/// Tags of a snapshot whose AMI is about to be deregistered: the AMI, for who deletes it again, and an overdue build, for who
/// sweeps. A snapshot that an image uses is never taken for overdue.
const MARKS: [&str; 3] = [tags::IMAGE, tags::BUILD, tags::DEADLINE];

pub(super) async fn mark(region: &Region, id: &str, snapshots: &BTreeSet<String>) {
    let deadline = tags::in_words(over_by(Utc::now() + DELETING));
    let values = [id.to_owned(), Uuid::new_v4().to_string(), deadline];
    let marks = MARKS.iter().map(|key| (*key).to_owned()).zip(values);
    if snapshots.is_empty() {
        return;
    }
    if let Err(error) = region.tag(snapshots, marks).await {
        tracing::warn!(image = id, %error, "the snapshots are not marked: cut off, nobody would know whose they are");
    }
}

/// They stay: nobody is to take them for left behind later.
pub(super) async fn unmark(region: &Region, snapshots: impl IntoIterator<Item = String>) {
    if let Err(error) = region.untag(snapshots, MARKS).await {
        tracing::warn!(%error, "the marks of snapshots that stay cannot be taken off");
    }
}

/// Deletes those that nobody else uses. `marked` ones that stay are nobody's to look for any more.
pub(super) async fn delete_all(
    region: &Region,
    id: &str,
    snapshots: &BTreeSet<String>,
    marked: bool,
    cancel: &CancellationToken,
) -> Result<Vec<String>, DeleteError> {
    let mut left = Vec::new();
    for snapshot in snapshots {
        let stays = delete_snapshot(region, id, snapshot, cancel).await?;
        if marked && stays.is_some() {
            unmark(region, [snapshot.clone()]).await;
        }
        left.extend(stays);
    }
    Ok(left)
}

/// Deletes a snapshot of an AMI that is gone. Returns why it stays, when others use it.
async fn delete_snapshot(
    region: &Region,
    id: &str,
    snapshot: &str,
    cancel: &CancellationToken,
) -> Result<Option<String>, DeleteError> {
    let mut pauses = Pauses::within(LAGGING, cancel);
    loop {
        let done = region.ec2.delete_snapshot().snapshot_id(snapshot).send().await;
        let message = match done.map_err(|error| AwsError::of("DeleteSnapshot", error)) {
            Ok(_) => return Ok(None),
            Err(error) if error.is_gone() => return Ok(None),
            Err(AwsError::Refused { code, message, .. }) if code == KEPT => {
                return Ok(Some(format!("snapshot {snapshot} in {}: {message}", region.name)));
            }
            Err(AwsError::Refused { code, message, .. }) if code == IN_USE => message,
            Err(error) => return Err(error.into()),
        };
        if is_used(region, id, snapshot).await? {
            return Ok(Some(format!("snapshot {snapshot} in {}: {message}", region.name)));
        }
        if !pauses.pause(id).await? {
            let (snapshot, region) = (snapshot.to_owned(), region.name.clone());
            return Err(DeleteError::Lagging { snapshot, region, message });
        }
    }
}

/// Whether another AMI than this one uses a snapshot.
async fn is_used(region: &Region, id: &str, snapshot: &str) -> Result<bool, AwsError> {
    let asked = region.ec2.describe_images().owners("self").include_disabled(true).include_deprecated(true);
    let by = filter("block-device-mapping.snapshot-id", [snapshot]);
    let users = region::images(asked.filters(by).max_results(region::PAGE)).await?;
    Ok(users.iter().any(|(user, ami)| user != id && !is_deregistered(ami)))
}

/// The snapshots of an AMI that may not be complete: waits until it is, or has failed.
pub(super) async fn settled(
    region: &Region,
    ami: &Ami,
    cancel: &CancellationToken,
) -> Result<BTreeSet<String>, DeleteError> {
    let id = ami.image_id().unwrap_or_default();
    let (mut now, mut pauses) = (Some(ami.clone()), Pauses::within(UNREADY, cancel));
    loop {
        let is_pending = now.as_ref().is_some_and(|ami| ami.state() == Some(&ImageState::Pending));
        let timely = !is_pending || pauses.pause(id).await?;
        if is_pending && timely {
            now = region.fresh_image(id).await?;
            continue;
        }
        let mut found = ids(&made_for(region, id).await?);
        found.extend(now.iter().flat_map(read::snapshots));
        if is_pending && found.is_empty() {
            return Err(DeleteError::Unready { id: id.to_owned(), region: region.name.clone() });
        }
        return Ok(found);
    }
}

/// Snapshots that say that they were made for an AMI.
async fn made_for(region: &Region, id: &str) -> Result<Vec<Snapshot>, AwsError> {
    let mut found = region::snapshots(&region.ec2, filter("description", [format!("*{id}*")])).await?;
    found.retain(|one| is_made_for(one.description().unwrap_or_default(), id));
    Ok(found)
}

fn ids<'a>(snapshots: impl IntoIterator<Item = &'a Snapshot>) -> BTreeSet<String> {
    snapshots.into_iter().filter_map(|one| one.snapshot_id().map(str::to_owned)).collect()
}

/// Whether EC2 itself wrote that a snapshot is this AMI's. That of a copy names the AMI it was made from, too.
fn is_made_for(description: &str, id: &str) -> bool {
    let rest = if let Some(rest) = description.strip_prefix("Copied for DestinationAmi ") {
        rest
    } else if let Some(rest) = description.strip_prefix("Created by CreateImage(") {
        rest.split_once(") for ").map_or("", |(_, rest)| rest)
    } else {
        ""
    };
    rest.split([' ', '.']).next() == Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_belongs_to_the_ami_that_it_was_made_for() {
        let copied = "Copied for DestinationAmi ami-2 from SourceAmi ami-1 for SourceSnapshot snap-1. Task created on 1,690,000,000,000.";
        let created = "Created by CreateImage(i-1) for ami-1";
        let older = "Created by CreateImage(i-1) for ami-1 from vol-1";
        for (description, id, own) in [
            (copied, "ami-2", true),
            (copied, "ami-1", false),
            (created, "ami-1", true),
            (older, "ami-1", true),
            (created, "ami-", false),
            (created, "i-1", false),
            ("a backup for ami-1", "ami-1", false),
            ("", "ami-1", false),
        ] {
            assert_eq!(is_made_for(description, id), own, "{description}: {id}");
        }
    }
}
