//! Deletes an image with its copies and their snapshots: copies first, so that a failure leaves the record of
//! what there is still to delete.

mod snapshots;

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_ec2::types::{Image as Ami, ImageState};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{copy, read};
use crate::backends::aws::region::Region;
use crate::backends::aws::{Aws, AwsError, tags};
use crate::domain::{BackendError, Copies};
use snapshots::{delete_all, mark, settled, unmark};
pub(super) use snapshots::{of_untagged, remaining};

/// The first pause between two attempts; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

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
    region.forget_image(id).await;
    delete_all(region, id, &snapshots, marks, cancel).await
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

/// Whether AWS does not let us delete an image at all.
pub(super) async fn is_denied(region: &Region, id: &str) -> bool {
    let tried = region.ec2.deregister_image().image_id(id).dry_run(true).send().await;
    matches!(tried.map_err(|error| AwsError::of("DeregisterImage", error)), Err(AwsError::Denied { .. }))
}

fn is_deregistered(ami: &Ami) -> bool {
    ami.state() == Some(&ImageState::Deregistered)
}

#[cfg(test)]
mod tests {
    use super::snapshots::LAGGING;
    use super::*;

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
