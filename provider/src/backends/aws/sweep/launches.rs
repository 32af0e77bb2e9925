//! Removes what launches of machines left when they were killed before the machine was in state. A launch that has ended,
//! well or not, has no entry and no deadline any more: what it made is in state, and the state's to remove.

use chrono::Utc;
use tokio_util::sync::CancellationToken;

use super::each::{Abandoned, clear, clear_each, late, quiet_looks, settle_each, within};
use super::look::{self, Wanted};
use super::overdue::overdue_launches;
use super::remove::Outcome;
use super::{How, Kind, SweepError, Swept};
use crate::backends::aws::region::Region;
use crate::backends::aws::vm::LAUNCH;
use crate::backends::aws::{Aws, AwsError, tags};
use crate::journal::{Journal, Launch, Record};

impl Aws {
    /// Where launches are written down.
    pub(in crate::backends::aws) fn launches(&self) -> Journal<Launch> {
        Journal::of_launches(&self.data_dir)
    }

    /// Removes what launches of this computer made that nobody works on any more, in one region or in all. What cannot be
    /// removed is told, and stays in the journal; it keeps no other launch.
    ///
    /// # Errors
    /// When the journal cannot be read, or when cancelled.
    pub async fn recover_launches(
        &self,
        region: Option<&str>,
        how: How,
        cancel: &CancellationToken,
    ) -> Result<Vec<Swept>, SweepError> {
        let abandoned = self.launches().abandoned()?;
        settle_each(abandoned, region, how, |record| self.settle_launch(record, how, cancel)).await
    }

    async fn settle_launch(
        &self,
        record: Record<Launch>,
        how: How,
        cancel: &CancellationToken,
    ) -> Result<Outcome<Vec<Swept>>, SweepError> {
        let entry = record.entry();
        let id = entry.whose();
        let other = self.reached_by(&entry.access, id.clone(), &entry.region, record.path()).await?;
        let region = other.as_ref().unwrap_or(self).region(Some(&entry.region)).await?;
        let wanted = Wanted { build: id, ..Wanted::default() };
        let cleared = clear(&region, wanted, quiet_looks(entry.deadline), how, cancel).await?;
        if cleared.stays.is_none() && how != How::DryRun {
            self.files(&entry.launch.to_string()).remove();
            record.end()?;
        }
        Ok(cleared)
    }

    /// Removes what launches left in a region whose deadline has passed, wherever they ran, but for those in the journal.
    /// What cannot be removed is told, and keeps no other launch.
    ///
    /// # Errors
    /// When AWS refuses to list them, or when cancelled.
    pub async fn sweep_overdue_launches(
        &self,
        region: Option<&str>,
        how: How,
        cancel: &CancellationToken,
    ) -> Result<Vec<Swept>, SweepError> {
        let region = self.region(region).await?;
        let region = &region;
        let overdue = within(how, self.lost(region)).await;
        let overdue = overdue.ok_or_else(|| late("what other launches left".to_owned()))??;
        clear_each(region, overdue, how, cancel).await
    }

    /// Launches past their deadline of which nothing is known here. One whose instance has no deadline any more has ended,
    /// and is in somebody's state, whatever else of it still has one.
    async fn lost(&self, region: &Region) -> Result<Vec<Wanted>, AwsError> {
        let (journal, mut lost) = (self.launches(), Vec::new());
        for launch in overdue_launches(region, Utc::now()).await?.into_keys() {
            let mut wanted = Wanted { build: id(launch), ..Wanted::default() };
            let there = look::of_build(region, &mut wanted).await?;
            let has_ended =
                |it: &look::Thing| it.kind == Kind::Instance && !it.tags.contains_key(tags::DEADLINE);
            if !journal.knows(launch) && !there.iter().any(has_ended) {
                lost.push(wanted);
            }
        }
        Ok(lost)
    }
}

impl Abandoned for Launch {
    fn place(&self) -> (&str, &str) {
        (&self.cloud, &self.region)
    }

    fn whose(&self) -> String {
        id(self.launch)
    }
}

/// A launch's id as it stands in state.
fn id(launch: uuid::Uuid) -> String {
    format!("{LAUNCH}{launch}")
}
