//! Who holds an image: it is claimed, given up, and deleted by the last who gives it up.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ec2::types::{Image as Ami, ImageState};
use chrono::{DateTime, Utc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::delete::DeleteError;
use super::withdraw::{self, is_withdrawn};
use super::{AwsImages, build, delete, not_found, read};
use crate::backends::aws::region::Region;
use crate::backends::aws::sweep::How;
use crate::backends::aws::waiting::once_known;
use crate::backends::aws::{AwsError, tags};
use crate::domain::causes;
use crate::domain::{BackendError, Copies, Holder, ImageBackend, Released};
use crate::journal::JournalError;

/// How long a claim waits for what killed builds left to go.
const SETTLING: Duration = Duration::from_secs(30);
/// How often an image is looked at of which somebody else decides whether it is deleted.
const LOOKS: u32 = 20;
/// The time between.
const PAUSE: Duration = Duration::from_secs(1);
/// When an image that is to be deleted is looked for again.
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

impl AwsImages {
    /// An image as it is in this moment, when it is decided whether it stays.
    async fn decided(&self, id: &str, doing: &str) -> Result<(Arc<Region>, Ami), BackendError> {
        for _ in 1..LOOKS {
            let (region, ami) = self.fresh(id, doing).await?;
            if !is_withdrawn(&ami) {
                return Ok((region, ami));
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(not_found(id))
    }

    /// An image as it is in this moment. What one place in EC2 does not know is not gone: state says that it was there.
    async fn looked_for(&self, id: &str, doing: &str) -> Result<(Arc<Region>, Ami), BackendError> {
        for pause in AGAIN {
            match self.fresh(id, doing).await {
                Err(error) if error.is_not_found() => tokio::time::sleep(pause).await,
                other => return other,
            }
        }
        self.fresh(id, doing).await
    }

    /// Deletes what is left of an image that is gone itself.
    async fn delete_remains(
        &self,
        id: &str,
        copies: &Copies,
        cancel: &CancellationToken,
    ) -> Result<Vec<String>, DeleteError> {
        let region = self.region().await?;
        let mut left = delete::copies(&self.aws, &format!("{}/{id}", region.name), copies, cancel).await?;
        left.extend(delete::remains(&region, id, cancel).await?);
        Ok(left)
    }

    /// Finishes or removes what killed builds of this computer left in the region: it may be a claim on the very image that is
    /// claimed now, or given up, which would keep that for ever.
    async fn settle_abandoned(&self, region: &Region, cancel: &CancellationToken) {
        let how = How::Until(Instant::now() + SETTLING);
        match self.aws.recover(Some(&region.name), how, cancel).await {
            Ok(swept) => swept.iter().for_each(build::tell),
            Err(error) => {
                tracing::warn!(error = causes(&error), "what killed builds left is not removed");
            }
        }
    }

    /// Claims an image, with an entry in the journal that stays until the claim is known: dropped halfway, it is abandoned.
    pub(super) async fn claim(
        &self,
        id: &str,
        holder: &Holder,
        until: DateTime<Utc>,
        doing: &str,
        cancel: &CancellationToken,
    ) -> Result<(), BackendError> {
        let failed = |error: AwsError| error.into_backend(doing);
        let (region, ami) = self.decided(id, doing).await?;
        // Nobody launches from one that was disabled since it was found.
        if ami.state() != Some(&ImageState::Available) {
            return Err(not_found(id));
        }
        let entry = self.aws.claim(&region.name, &read::image(&region.name, &ami), holder, until).await;
        // Without a key it is no hit.
        let entry = entry.map_err(failed)?.ok_or_else(|| not_found(id))?;
        let journal = |error: JournalError| BackendError::failed(doing, error);
        let record = self.aws.journal().begin(entry).map_err(journal)?;
        let held = tags::held_until(holder, record.entry().deadline);
        if let Err(error) = region.tag([id], [held]).await {
            if !error.is_gone() {
                return Err(failed(error));
            }
            record.end().map_err(journal)?;
            return Err(not_found(id));
        }
        let lapsed = read::lapsed(&ami);
        region.untag([id], lapsed.iter().map(|holder| tags::held_by(holder).0)).await.map_err(failed)?;
        self.settle_abandoned(&region, cancel).await;
        // It may have been deleted in between. One without a key is as good as gone.
        match self.decided(id, doing).await {
            Ok((_, ami)) if withdraw::key(&ami).is_some() => {
                self.aws.claims.add(record);
                Ok(())
            }
            Err(error) if !error.is_not_found() => Err(error),
            _ => {
                match region.untag([id], [tags::held_by(holder).0]).await {
                    Err(error) if !error.is_gone() => return Err(failed(error)),
                    _ => record.end().map_err(journal)?,
                }
                Err(not_found(id))
            }
        }
    }

    /// From here on the claim has no end.
    pub(super) async fn confirm(&self, id: &str, holder: &Holder, doing: &str) -> Result<(), BackendError> {
        if !self.aws.claims.has(holder) {
            return Ok(());
        }
        let region = self.aws.region_for(self.region.as_deref(), doing).await?;
        let (to_the_end, held) = (CancellationToken::new(), || region.tag([id], [tags::held_by(holder)]));
        let held = once_known(&to_the_end, AwsError::is_gone, held).await;
        held.map_err(|error| error.into_backend(doing))?;
        self.aws.claims.settle(holder).map_err(|error| BackendError::failed(doing, error))
    }

    /// Gives up a claim, and deletes what nobody holds any more.
    pub(super) async fn let_go(
        &self,
        id: &str,
        holder: Option<&Holder>,
        retain: bool,
        copies: &Copies,
        doing: &str,
        cancel: &CancellationToken,
    ) -> Result<Released, BackendError> {
        let failed = |error: AwsError| error.into_backend(doing);
        let (region, ami) = match self.looked_for(id, doing).await {
            Err(error) if error.is_not_found() && !retain => {
                let left = self.delete_remains(id, copies, cancel).await;
                let left = left.map_err(|error| error.into_backend(doing))?;
                return if left.is_empty() && copies.is_empty() {
                    Err(error)
                } else {
                    Ok(Released::Deleted { left })
                };
            }
            other => other?,
        };
        if let Some(holder) = holder {
            region.untag([id], [tags::held_by(holder).0]).await.map_err(failed)?;
            self.aws.claims.settle(holder).map_err(|error| BackendError::failed(doing, error))?;
        }
        if retain {
            return Ok(Released::Retained);
        }
        // Read again: of two that let go at once, the last has to see that there is nobody left, and whoever came in
        // between has to be seen.
        let mut others = withdraw::others(&region, id, holder).await.map_err(failed)?;
        if others > 0 {
            self.settle_abandoned(&region, cancel).await;
            others = withdraw::others(&region, id, holder).await.map_err(failed)?;
        }
        let key = withdraw::key(&ami);
        if others > 0 {
            if let Some(key) = key.filter(|_| is_withdrawn(&ami)) {
                withdraw::restore(&region, id, &key).await.map_err(failed)?;
            }
            return Ok(Released::Held { others });
        }
        if read::is_copy(&ami) {
            return Err(BackendError::failed(doing, IsCopy { id: id.to_owned() }));
        }
        let Some(key) = key else {
            return Err(BackendError::failed(doing, NotOurs { id: id.to_owned() }));
        };
        match self.delete(&region, &ami, (&key, holder), copies, cancel).await {
            // Who holds it goes all the same: its claim would keep the image from whoever may delete it. Where only a copy's
            // region denies, the state is what knows of the rest.
            Err(DeleteError::Aws(error @ AwsError::Denied { .. }))
                if delete::is_denied(&region, id).await =>
            {
                Ok(self.forbidden(id, &error).await)
            }
            done => done.map_err(|error| error.into_backend(doing)),
        }
    }

    /// Deletes an image that nobody seems to hold.
    async fn delete(
        &self,
        region: &Region,
        ami: &Ami,
        (key, holder): (&str, Option<&Holder>),
        copies: &Copies,
        cancel: &CancellationToken,
    ) -> Result<Released, DeleteError> {
        let id = ami.image_id().unwrap_or_default();
        let mut left = delete::copies_of(&self.aws, region, ami, copies, cancel).await?;
        // Copies take their time. Who came meanwhile keeps the image, and its next plan makes the copies again.
        match withdraw::withdraw(region, ami, key, holder).await? {
            0 => {}
            others => return Ok(Released::Held { others }),
        }
        match delete::one(region, ami, cancel).await {
            Ok(own) => {
                left.extend(own);
                Ok(Released::Deleted { left })
            }
            Err(error) => {
                withdraw::give_back(region, id, key).await;
                Err(error)
            }
        }
    }

    /// What there is of an image that may not be deleted.
    async fn forbidden(&self, id: &str, error: &AwsError) -> Released {
        let mut what = Vec::new();
        if let Ok((region, ami)) = self.fresh(id, "reading what stays").await {
            for (name, artifact) in self.whole(&region, &ami).await.artifacts {
                what.push(format!("image {} in {name}", artifact.image_id));
                let snapshots = artifact.snapshot_ids.iter();
                what.extend(snapshots.map(|snapshot| format!("snapshot {snapshot} in {name}")));
            }
        } else {
            what.extend(self.remains(id).await.unwrap_or_default());
        }
        Released::Forbidden { what, why: causes(error) }
    }
}

/// Its image is in another region, with what is to be known of it.
#[derive(Debug, thiserror::Error)]
#[error(
    "image {id} is a copy of one in another region, which is deleted with its copies\nManage that one instead"
)]
struct IsCopy {
    id: String,
}

/// Somebody took our tag away, or it was never ours: deleting it could hit another's work.
#[derive(Debug, thiserror::Error)]
#[error(
    "image {id} has no tag `sindri_key` (any more), so it is not deleted\nPut the tag back, or delete the image by hand and run again"
)]
struct NotOurs {
    id: String,
}
