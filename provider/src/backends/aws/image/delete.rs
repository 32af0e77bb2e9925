//! Deletes an image with its copies and their snapshots: copies first, so that a failure leaves the record of
//! what there is still to delete.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_ec2::types::{Image as Ami, ImageState, Snapshot};
use chrono::{SecondsFormat, TimeDelta, Utc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{copy, read};
use crate::backends::aws::region::{self, Region, filter, tag_filter};
use crate::backends::aws::sweep::over_by;
use crate::backends::aws::{Aws, AwsError, tags};
use crate::domain::{BackendError, Copies};

/// What EC2 says of a snapshot that an AMI uses, and for a while also of one whose AMI was just deregistered.
const IN_USE: &str = "InvalidSnapshot.InUse";
/// What it says of one that another service of AWS keeps.
const KEPT: &str = "OperationNotPermitted";

/// The first pause between two attempts; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// How long EC2 may take a snapshot for used by an AMI that is gone.
const LAGGING: Duration = Duration::from_secs(60);
/// How long a deletion goes on.
const DELETING: TimeDelta = TimeDelta::hours(1);
/// How long an AMI that is still being made is waited for. Deregistered earlier, its snapshots come up later.
const UNREADY: Duration = Duration::from_secs(2 * 60);

/// Why something is not deleted. What there is still to delete stays recorded.
#[derive(Debug, thiserror::Error)]
pub(in crate::backends::aws) enum DeleteError {
    /// AWS refused something.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// EC2 does not come to know that the AMI is gone.
    #[error(
        "snapshot {snapshot} in {region}: EC2 says that it is in use, and no image uses it: {message}\nDelete it by hand if the next run does not"
    )]
    Lagging {
        /// The snapshot.
        snapshot: String,
        /// Where it is.
        region: String,
        /// What EC2 says.
        message: String,
    },
    /// It has no snapshots yet that could be deleted with it.
    #[error("image {id} in {region} is still being made\nRun again when EC2 is done with it")]
    Unready {
        /// The AMI.
        id: String,
        /// Where it is.
        region: String,
    },
    /// The user's time or patience is over.
    #[error("deleting image {id} was cancelled")]
    Cancelled {
        /// The AMI.
        id: String,
    },
}

impl DeleteError {
    /// As resources see it.
    pub(super) fn into_backend(self, doing: &str) -> BackendError {
        match self {
            Self::Aws(error) => error.into_backend(doing),
            Self::Cancelled { .. } => BackendError::Cancelled { operation: doing.to_owned() },
            other => BackendError::failed(doing, other),
        }
    }
}

/// Pauses of growing length, within a time.
struct Pauses<'a> {
    next: Duration,
    end: Instant,
    cancel: &'a CancellationToken,
}

impl<'a> Pauses<'a> {
    fn within(time: Duration, cancel: &'a CancellationToken) -> Self {
        Self { next: FIRST_PAUSE, end: Instant::now() + time, cancel }
    }

    /// Waits; false when the time is over.
    async fn pause(&mut self, id: &str) -> Result<bool, DeleteError> {
        if Instant::now() >= self.end {
            return Ok(false);
        }
        tokio::select! {
            () = self.cancel.cancelled() => return Err(DeleteError::Cancelled { id: id.to_owned() }),
            () = tokio::time::sleep(self.next) => {}
        }
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        Ok(true)
    }
}

/// Deletes an image's copies in every region that they are recorded in, by its tags and by state, or begun in. Returns what stays
/// because others use it.
pub(in crate::backends::aws) async fn copies_of(
    aws: &Aws,
    home: &Region,
    ami: &Ami,
    known: &Copies,
    cancel: &CancellationToken,
) -> Result<Vec<String>, DeleteError> {
    let all = tags::map(ami.tags());
    let mut left = Vec::new();
    for (region, id) in read::copies(&all) {
        let region = aws.region(Some(region)).await?;
        left.extend(by_id(&region, id, cancel).await?);
    }
    let of = copy::origin(home, ami);
    for region in read::unfinished(&all) {
        left.extend(unrecorded(aws.region(Some(region)).await?.as_ref(), &of, cancel).await?);
    }
    let recorded: BTreeSet<&str> = read::copies(&all).map(|(_, id)| id).collect();
    let known: Copies = known.clone().into_iter().filter(|(_, id)| !recorded.contains(id.as_str())).collect();
    left.extend(copies(aws, &of, &known, cancel).await?);
    Ok(left)
}

/// Deletes what says in a region that it is a copy of this image: where one was begun, its id may have been lost.
pub(super) async fn unrecorded(
    region: &Region,
    of: &str,
    cancel: &CancellationToken,
) -> Result<Vec<String>, DeleteError> {
    let mut left = Vec::new();
    for copy in region.copies_of(of).await?.iter().filter(|copy| !is_deregistered(copy)) {
        left.extend(one(region, copy, cancel).await?);
    }
    Ok(left)
}

/// Deletes copies that only state knows of, if they say themselves that they are copies of this image.
pub(super) async fn copies(
    aws: &Aws,
    of: &str,
    known: &Copies,
    cancel: &CancellationToken,
) -> Result<Vec<String>, DeleteError> {
    let mut left = Vec::new();
    for (region, id) in known {
        let region = aws.region(Some(region)).await?;
        let Some(copy) = region.fresh_image(id).await?.filter(|ami| !is_deregistered(ami)) else { continue };
        if tags::map(copy.tags()).get(tags::COPY_OF).is_some_and(|origin| origin == of) {
            left.extend(one(&region, &copy, cancel).await?);
        } else {
            left.push(format!("image {id} in {}: it does not say (any more) that it is a copy", region.name));
        }
    }
    Ok(left)
}

/// Deletes an AMI that may be gone already, with what is left of it.
pub(super) async fn by_id(
    region: &Region,
    id: &str,
    cancel: &CancellationToken,
) -> Result<Vec<String>, DeleteError> {
    match region.fresh_image(id).await? {
        Some(ami) => one(region, &ami, cancel).await,
        None => remains(region, id, cancel).await,
    }
}

/// Deletes an AMI that has no tags of ours, and that we know to have been made for us. When it is gone, an earlier try may
/// have been cut off before its snapshots were: those go that [are known to be its own](of_untagged).
pub(super) async fn untagged(
    region: &Region,
    id: &str,
    cancel: &CancellationToken,
) -> Result<Vec<String>, DeleteError> {
    match region.fresh_image(id).await?.filter(|ami| !is_deregistered(ami)) {
        Some(ami) => deregister(region, &ami, true, cancel).await,
        None => delete_all(region, id, &of_untagged(region, id).await?, true, cancel).await,
    }
}

/// Snapshots of which EC2 says that they were made for an AMI, or that we marked before we deregistered it.
pub(super) async fn of_untagged(region: &Region, id: &str) -> Result<BTreeSet<String>, AwsError> {
    let mut all = ids(&made_for(region, id).await?);
    all.extend(ids(&region::snapshots(&region.ec2, tag_filter(tags::IMAGE, [id])).await?));
    Ok(all)
}

/// Deletes one AMI and its snapshots.
pub(super) async fn one(
    region: &Region,
    ami: &Ami,
    cancel: &CancellationToken,
) -> Result<Vec<String>, DeleteError> {
    deregister(region, ami, false, cancel).await
}

/// The same. With `marks` its snapshots say before whose they are, for nothing else may tell afterwards.
async fn deregister(
    region: &Region,
    ami: &Ami,
    marks: bool,
    cancel: &CancellationToken,
) -> Result<Vec<String>, DeleteError> {
    let id = ami.image_id().unwrap_or_default();
    if cancel.is_cancelled() {
        return Err(DeleteError::Cancelled { id: id.to_owned() });
    }
    let mut snapshots: BTreeSet<String> = read::snapshots(ami).into_iter().collect();
    if ami.state() != Some(&ImageState::Available) || snapshots.is_empty() {
        snapshots.extend(settled(region, ami, cancel).await?);
    }
    if marks {
        mark(region, id, &snapshots).await;
    }
    let done = region.ec2.deregister_image().image_id(id).send().await;
    match done.map_err(|error| AwsError::of("DeregisterImage", error)) {
        Err(error) if error.is_gone() => {}
        Err(error) => {
            if marks && !error.is_ambiguous() {
                unmark(region, snapshots).await;
            }
            return Err(error.into());
        }
        Ok(_) => {}
    }
    region.image_is_gone(id).await;
    delete_all(region, id, &snapshots, marks, cancel).await
}

/// Tags of a snapshot whose AMI is about to be deregistered: the AMI, for who deletes it again, and an overdue build, for who
/// sweeps. A snapshot that an image uses is never taken for overdue.
const MARKS: [&str; 3] = [tags::IMAGE, tags::BUILD, tags::DEADLINE];

async fn mark(region: &Region, id: &str, snapshots: &BTreeSet<String>) {
    let deadline = over_by(Utc::now() + DELETING).to_rfc3339_opts(SecondsFormat::Secs, true);
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
async fn unmark(region: &Region, snapshots: impl IntoIterator<Item = String>) {
    if let Err(error) = region.untag(snapshots, MARKS).await {
        tracing::warn!(%error, "the marks of snapshots that stay cannot be taken off");
    }
}

/// Deletes what an AMI left that is gone itself: snapshots that we marked as ours. Whose image it was cannot be asked any
/// more, and who deregisters an image of their own may keep its snapshots.
pub(super) async fn remains(
    region: &Region,
    id: &str,
    cancel: &CancellationToken,
) -> Result<Vec<String>, DeleteError> {
    delete_all(region, id, &remaining(region, id).await?, false, cancel).await
}

/// Those snapshots, which nobody uses. What others use is left to them, when their image goes.
pub(super) async fn remaining(region: &Region, id: &str) -> Result<BTreeSet<String>, AwsError> {
    let made = made_for(region, id).await?;
    let is_ours =
        |one: &Snapshot| [tags::KEY, tags::BUILD].iter().any(|key| tags::map(one.tags()).contains_key(*key));
    Ok(ids(made.iter().filter(|one| is_ours(one))))
}

/// Deletes those that nobody else uses. `marked` ones that stay are nobody's to look for any more.
async fn delete_all(
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

fn is_deregistered(ami: &Ami) -> bool {
    ami.state() == Some(&ImageState::Deregistered)
}

/// The snapshots of an AMI that may not be complete: waits until it is, or has failed.
async fn settled(
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

    #[tokio::test]
    async fn pauses_end_with_their_time_and_with_a_stop() {
        let cancel = CancellationToken::new();
        let mut pauses = Pauses::within(FIRST_PAUSE, &cancel);
        assert!(pauses.pause("ami-1").await.unwrap());
        assert!(!pauses.pause("ami-1").await.unwrap());
        cancel.cancel();
        let stopped = Pauses::within(LAGGING, &cancel).pause("ami-1").await.unwrap_err();
        assert!(matches!(stopped.into_backend("x"), BackendError::Cancelled { .. }));
    }
}
