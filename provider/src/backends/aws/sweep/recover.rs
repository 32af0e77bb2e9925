//! Finishes or removes what builds began that nobody works on any more.

use std::collections::BTreeSet;
use std::path::Path;

use aws_sdk_ec2::types::ImageState;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::claim::give_up;
use super::each::{Abandoned, clear, clear_each, late, quiet_looks, settle_each, within};
use super::look::Wanted;
use super::overdue::overdue;
use super::remove::Outcome;
use super::{Access, How, Kind, Remain, SweepError, Swept, complete};
use crate::backends::aws::image::holders_of;
use crate::backends::aws::region::Region;
use crate::backends::aws::{Aws, AwsError, tags};
use crate::journal::{Entry, Journal, Phase, Record};
use crate::process::{leftover, lock, private};

impl Aws {
    /// Settles what builds of this computer began in AWS that nobody works on: in one region, or in all and with builders
    /// that are kept for a look. What cannot be settled is told, and stays in the journal; it keeps no other build.
    ///
    /// # Errors
    /// When the journal cannot be read, or when cancelled.
    pub async fn recover(
        &self,
        region: Option<&str>,
        how: How,
        cancel: &CancellationToken,
    ) -> Result<Vec<Swept>, SweepError> {
        let abandoned = self.journal().abandoned()?;
        settle_each(abandoned, region, how, |record| self.settle_all(record, how, cancel)).await
    }

    /// Settles one build: an image that had passed all checks is made complete, one that was complete stays with its holder,
    /// all else is removed. The entry ends when
    /// there is nothing left of it.
    ///
    /// # Errors
    /// When something stays: so does the entry.
    pub async fn settle(
        &self,
        record: Record,
        how: How,
        cancel: &CancellationToken,
    ) -> Result<Vec<Swept>, SweepError> {
        let Outcome { done, stays } = self.settle_all(record, how, cancel).await?;
        stays.map_or(Ok(done), Err)
    }

    /// Settles one build, and tells what was done when something stays, too.
    async fn settle_all(
        &self,
        record: Record,
        how: How,
        cancel: &CancellationToken,
    ) -> Result<Outcome<Vec<Swept>>, SweepError> {
        let entry = record.entry().clone();
        let mut swept = Vec::new();
        if entry.phase != Phase::Begun {
            let other = self.reaching(&record).await?;
            let aws = other.as_ref().unwrap_or(self);
            let image = settle_image(aws, &entry, how, cancel).await?;
            swept.extend(image.swept);
            if !image.is_all {
                let region = aws.region(Some(&entry.region)).await?;
                let wanted = wanted(&entry, image.stays);
                let cleared = clear(&region, wanted, quiet_looks(entry.deadline), how, cancel).await?;
                swept.extend(cleared.done);
                if cleared.stays.is_some() {
                    return Ok(Outcome { done: swept, stays: cleared.stays });
                }
            }
        }
        if how != How::DryRun {
            self.remove_dir(entry.build);
            self.remove_turn(&entry);
            record.end()?;
        }
        Ok(Outcome { done: swept, stays: None })
    }

    /// The file of the lock that a killed build held, unless somebody holds it now.
    fn remove_turn(&self, entry: &Entry) {
        let path = self.turn_path(&entry.region, &entry.key);
        if path.exists()
            && let Ok(Some(_lock)) = lock::try_open(&path)
        {
            let _ = std::fs::remove_file(&path);
        }
    }

    /// What a killed build had on this computer: its key, and steps with secrets in them.
    fn remove_dir(&self, build: Uuid) {
        let dir = self.build_dir(build);
        leftover::end_those_of(&dir);
        private::remove_build_dir(&dir);
    }

    /// Removes what builds left in a region whose deadline has passed, wherever they ran, but for those in the journal:
    /// of these [`recover`](Self::recover) knows more. What cannot be removed is told, and keeps no other build.
    ///
    /// # Errors
    /// When AWS refuses to list them, or when cancelled.
    pub async fn sweep_overdue(
        &self,
        region: Option<&str>,
        how: How,
        cancel: &CancellationToken,
    ) -> Result<Vec<Swept>, SweepError> {
        let region = self.region(region).await?;
        let region = &region;
        let overdue = self.overdue(region, Utc::now());
        let overdue =
            within(how, overdue).await.ok_or_else(|| late("what other builds left".to_owned()))??;
        let wanted = overdue.into_iter();
        let wanted = wanted.map(|build| Wanted { build: build.to_string(), ..Wanted::default() });
        clear_each(region, wanted.collect(), how, cancel).await
    }

    /// Builds that are past their deadline and of which nothing is known here: clocks differ, and a builder may be kept.
    async fn overdue(&self, region: &Region, now: DateTime<Utc>) -> Result<Vec<Uuid>, AwsError> {
        let journal: Journal = self.journal();
        Ok(overdue(region, now).await?.into_keys().filter(|build| !journal.knows(*build)).collect())
    }

    async fn reaching(&self, record: &Record) -> Result<Option<Self>, SweepError> {
        let entry = record.entry();
        self.reached_by(&entry.access, entry.build.to_string(), &entry.region, record.path()).await
    }

    /// AWS as the build or launch of an entry came to it, with the same account; `None` when that is how we come to it.
    pub(super) async fn reached_by(
        &self,
        access: &serde_json::Value,
        build: String,
        region: &str,
        file: &Path,
    ) -> Result<Option<Self>, SweepError> {
        let Ok(access) = serde_json::from_value::<Access>(access.clone()) else {
            let path = file.display().to_string();
            return Err(SweepError::UnknownAccess { build, region: region.to_owned(), path });
        };
        let is_ours = access.settings == self.settings;
        let other = (!is_ours).then(|| Self::new(access.settings, self.data_dir.clone()));
        let here = other.as_ref().unwrap_or(self).account().await?.to_owned();
        if here != access.account {
            return Err(SweepError::OtherAccount { build, there: access.account, here });
        }
        Ok(other)
    }
}

impl Abandoned for Entry {
    fn place(&self) -> (&str, &str) {
        (&self.cloud, &self.region)
    }

    fn whose(&self) -> String {
        self.build.to_string()
    }

    fn is_kept(&self) -> bool {
        self.phase == Phase::Kept
    }
}

/// What became of the image of an entry.
#[derive(Debug, Default)]
pub(super) struct OfImage {
    /// What was done.
    pub(super) swept: Option<Swept>,
    /// Whether it stays: it is for others to find, or somebody holds it.
    pub(super) stays: bool,
    /// Whether there is nothing else.
    pub(super) is_all: bool,
}

/// Finishes an image that lacks only its tags, and takes a claim off that no state knows.
async fn settle_image(
    aws: &Aws,
    entry: &Entry,
    how: How,
    cancel: &CancellationToken,
) -> Result<OfImage, SweepError> {
    match &entry.phase {
        Phase::Claimed { image_id, alone } => {
            let given_up = give_up(aws, entry, image_id, how, cancel).await?;
            // One that was there before is not ours to look for.
            let is_all = *alone && (given_up.stays || entry.share);
            Ok(OfImage { is_all, ..given_up })
        }
        Phase::Complete { .. } => Ok(OfImage { stays: true, ..OfImage::default() }),
        _ => {
            let completed = complete_accepted(aws, entry, how).await?;
            let stays = completed.is_some();
            Ok(OfImage { swept: completed.map(Swept::Completed), stays, is_all: false })
        }
    }
}

/// An image that passed all checks and that somebody may still ask for.
async fn complete_accepted(aws: &Aws, entry: &Entry, how: How) -> Result<Option<Remain>, SweepError> {
    let Phase::Accepted { image_id } = &entry.phase else { return Ok(None) };
    let region = aws.region(Some(&entry.region)).await?;
    let Some(ami) = region.fresh_image(image_id).await? else { return Ok(None) };
    let is_complete = tags::map(ami.tags()).contains_key(tags::KEY);
    let has_others = holders_of(&ami).iter().any(|holder| *holder != entry.holder);
    let is_wanted = entry.share || (is_complete && has_others);
    let is_completed = is_wanted && ami.state() == Some(&ImageState::Available);
    if how != How::DryRun {
        // Whoever would hold it does not know of it.
        let holder = tags::held_by(&entry.holder).0;
        let key = (!is_completed).then(|| tags::KEY.to_owned());
        match region.untag([image_id], std::iter::once(holder).chain(key)).await {
            Err(error) if error.is_gone() => {}
            other => other?,
        }
        if is_completed {
            complete(aws, entry, &ami, None).await?;
        }
    }
    if !is_completed {
        return Ok(None);
    }
    Ok(Some(Remain {
        kind: Kind::Image,
        id: image_id.clone(),
        region: entry.region.clone(),
        build: entry.build.to_string(),
    }))
}

/// What is to be removed of a build: all, or all but its image.
fn wanted(entry: &Entry, stays: bool) -> Wanted {
    let own: BTreeSet<String> = entry.phase.image_id().map(str::to_owned).into_iter().collect();
    let (images, spared) = if stays { (BTreeSet::new(), own) } else { (own, BTreeSet::new()) };
    let named = Some((entry.name.clone(), entry.started_at));
    Wanted { build: entry.build.to_string(), named, images, spared, ..Wanted::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::aws::CLOUD;
    use crate::domain::{CacheKey, Holder};

    #[test]
    fn an_image_that_stays_is_spared_and_any_other_goes() {
        let image_id = || "ami-1".to_owned();
        for (phase, stays, goes, spared) in [
            (Phase::Building, false, None, None),
            (Phase::Built { image_id: image_id() }, false, Some("ami-1"), None),
            (Phase::Accepted { image_id: image_id() }, false, Some("ami-1"), None),
            (Phase::Accepted { image_id: image_id() }, true, None, Some("ami-1")),
            (Phase::Complete { image_id: image_id() }, true, None, Some("ami-1")),
            (Phase::Claimed { image_id: image_id(), alone: false }, true, None, Some("ami-1")),
            (Phase::Claimed { image_id: image_id(), alone: true }, false, Some("ami-1"), None),
        ] {
            let wanted = wanted(&entry(phase.clone()), stays);
            assert_eq!(wanted.images.first().map(String::as_str), goes, "{phase:?}");
            assert_eq!(wanted.spared.first().map(String::as_str), spared, "{phase:?}");
        }
    }

    fn entry(phase: Phase) -> Entry {
        Entry {
            build: Uuid::new_v4(),
            cloud: CLOUD.into(),
            region: "us-west-2".into(),
            name: "web-1".into(),
            key: CacheKey::try_from("a".repeat(63)).unwrap(),
            share: true,
            holder: Holder::random(),
            tags: [].into(),
            access: serde_json::Value::Null,
            started_at: DateTime::<Utc>::UNIX_EPOCH,
            deadline: DateTime::<Utc>::UNIX_EPOCH,
            phase,
        }
    }
}
