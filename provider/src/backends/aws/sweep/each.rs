//! What builds and launches began is settled one by one, all at once: none keeps another.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use super::look::{self, Wanted};
use super::remove::{Outcome, RESTLESS, remove};
use super::{How, SweepError, Swept, whose};
use crate::backends::aws::CLOUD;
use crate::backends::aws::region::Region;
use crate::journal::{Begun, Record};

/// What a request that is under way gets when the time is over.
const LAST_REQUEST: Duration = Duration::from_secs(5);

/// What is begun, as the journals of builds and of launches have it.
pub(super) trait Abandoned: Begun {
    /// The cloud and the region in which it worked.
    fn place(&self) -> (&str, &str);

    /// Its id, as people and things have it.
    fn whose(&self) -> String;

    /// Whether it stays until somebody sweeps all regions.
    fn is_kept(&self) -> bool {
        false
    }
}

/// Settles what was begun in AWS: in one region, or in all and what is kept for a look.
pub(super) async fn settle_each<E: Abandoned, F>(
    mut abandoned: Vec<Record<E>>,
    region: Option<&str>,
    how: How,
    settle: impl Fn(Record<E>) -> F,
) -> Result<Vec<Swept>, SweepError>
where
    F: Future<Output = Result<Outcome<Vec<Swept>>, SweepError>>,
{
    // The others are free at once for whoever else looks for them.
    abandoned.retain(|record| {
        let (entry, (cloud, at)) = (record.entry(), record.entry().place());
        cloud == CLOUD && region.is_none_or(|region| region == at && !entry.is_kept())
    });
    let settling = abandoned.into_iter().map(|record| {
        let (whose, at) = (record.entry().whose(), record.entry().place().1.to_owned());
        let settled = settle(record);
        async move {
            let settled = in_time(how, &whose, settled).await;
            (whose, at, settled)
        }
    });
    all(join_all(settling).await)
}

/// Removes what is overdue in a region.
pub(super) async fn clear_each(
    region: &Region,
    overdue: Vec<Wanted>,
    how: How,
    cancel: &CancellationToken,
) -> Result<Vec<Swept>, SweepError> {
    let clearing = overdue.into_iter().map(|wanted| async move {
        let whose = wanted.build.clone();
        let cleared = in_time(how, &whose, clear(region, wanted, 1, how, cancel)).await;
        (whose, region.name.clone(), cleared)
    });
    all(join_all(clearing).await)
}

/// How many looks in a row must find nothing: until the deadline, a build may have been killed, or have failed, a moment ago,
/// however long ago it began.
pub(super) fn quiet_looks(deadline: DateTime<Utc>) -> u32 {
    if deadline < Utc::now() { 2 } else { RESTLESS }
}

pub(super) async fn clear(
    region: &Region,
    mut wanted: Wanted,
    quiet_looks: u32,
    how: How,
    cancel: &CancellationToken,
) -> Result<Outcome<Vec<Swept>>, SweepError> {
    let Outcome { done, stays } = match how {
        How::Really | How::Until(_) => remove(region, wanted, quiet_looks, how, cancel).await,
        How::DryRun => {
            let found = look::of_build(region, &mut wanted).await?;
            let done = found.iter().map(|thing| thing.remain(region, &wanted.build)).collect();
            Outcome { done, stays: None }
        }
    };
    Ok(Outcome { done: done.into_iter().map(Swept::Removed).collect(), stays })
}

/// A build, its region, and what became of it.
type Settled = (String, String, Result<Outcome<Vec<Swept>>, SweepError>);

/// What became of several builds, of which none keeps another.
fn all(settled: Vec<Settled>) -> Result<Vec<Swept>, SweepError> {
    let mut swept = Vec::new();
    for (build, region, outcome) in settled {
        let (done, stays) = match outcome {
            Ok(Outcome { done, stays }) => (done, stays),
            Err(why) => (Vec::new(), Some(why)),
        };
        swept.extend(done);
        match stays {
            None => {}
            Some(SweepError::Cancelled) => return Err(SweepError::Cancelled),
            Some(why) => swept.push(Swept::Left { build, region, why }),
        }
    }
    Ok(swept)
}

/// The end of what settles a build, also when AWS does not answer.
async fn in_time<T>(
    how: How,
    build: &str,
    settling: impl Future<Output = Result<T, SweepError>>,
) -> Result<T, SweepError> {
    within(how, settling).await.unwrap_or_else(|| Err(late(format!("what {} made", whose(build)))))
}

/// `None` when the time is over.
pub(super) async fn within<T>(how: How, doing: impl Future<Output = T>) -> Option<T> {
    match how {
        How::Until(end) => tokio::time::timeout_at(end + LAST_REQUEST, doing).await.ok(),
        How::Really | How::DryRun => Some(doing.await),
    }
}

pub(super) fn late(what: String) -> SweepError {
    SweepError::Late { what, why: "AWS takes long to answer".to_owned() }
}
