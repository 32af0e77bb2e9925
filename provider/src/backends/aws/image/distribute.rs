//! Brings an AMI to other regions and accounts, and lets it age. Each region is on its own: what fails in one stops no
//! other, and what is left is found by the next plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_ec2::primitives::DateTime as SdkTime;
use aws_sdk_ec2::types::Image as Ami;
use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use super::delete::DeleteError;
use super::{copy, delete, read, share};
use crate::backends::aws::region::Region;
use crate::backends::aws::{Aws, AwsError, tags};
use crate::domain::causes;
use crate::domain::distribution::{ages_as, deprecation};
use crate::domain::{Copies, Distribution, Share, Undistributed};

const REGIONS: &str = "aws.ami_regions";
const DEPRECATE: &str = "aws.deprecate_after";

/// One image on its way from one distribution to another.
pub(super) struct Task<'a> {
    pub(super) aws: &'a Aws,
    pub(super) home: &'a Arc<Region>,
    pub(super) ami: &'a Ami,
    pub(super) from: &'a Distribution,
    pub(super) to: &'a Distribution,
    pub(super) cancel: &'a CancellationToken,
}

/// Where the image is.
struct Place {
    region: Arc<Region>,
    id: String,
    /// Nothing of what is asked for was done here yet.
    fresh: bool,
}

impl Task<'_> {
    /// Does it. Returns what did not work.
    pub(super) async fn run(&self) -> Vec<Undistributed> {
        let all = tags::map(self.ami.tags());
        let mut recorded: Copies =
            read::copies(&all).map(|(region, id)| (region.to_owned(), id.to_owned())).collect();
        let mut problems = Vec::new();
        for region in self.from.regions.difference(&self.to.regions) {
            let (id, begun) = (recorded.remove(region), self.is_marked(&all, region));
            if id.is_some() || begun {
                let removed = self.unless_stopped(Box::pin(self.remove(region, id.as_deref(), begun))).await;
                problems.extend(removed.err().map(|error| told(REGIONS, region, &*error)));
            }
        }
        for place in self.places(recorded, &mut problems).await {
            let unready = if place.fresh {
                copy::wait(&place.region, &place.id, self.cancel).await.err()
            } else {
                None
            };
            if let Some(error) = unready {
                problems.push(told(REGIONS, &place.region.name, &error));
                continue;
            }
            let is_home = place.region.name == self.home.name;
            let marked = self.is_marked(&all, &place.region.name);
            // As long as a copy is shared with somebody, home is, too: there, the next plan sees it.
            let shared = problems.iter().any(share::is_about);
            let from = if is_home && shared { None } else { self.from.share.as_ref() };
            let left = self.settle(&place, from, marked).await;
            if !is_home {
                let done = self.unless_stopped(self.mark(&place, marked, left.is_empty())).await;
                problems.extend(done.err().map(|error| told(REGIONS, &place.region.name, &*error)));
            }
            problems.extend(left);
        }
        let id = self.ami.image_id().unwrap_or_default();
        if let Err(error) = self.unless_stopped(self.home.fresh_image(id)).await {
            problems.push(told(REGIONS, &self.home.name, &*error));
        }
        problems
    }

    /// Does one thing, unless the user's time or patience is over.
    async fn unless_stopped<T, E: std::error::Error + Send + Sync + 'static>(
        &self,
        doing: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Box<dyn std::error::Error + Send + Sync>> {
        match self.cancel.run_until_cancelled(doing).await {
            Some(done) => Ok(done?),
            None => Err(Box::new(copy::Stopped)),
        }
    }

    /// Where the image is to be shared and to age: in the regions asked for, where all copies are begun before one is waited
    /// for, in copies that others asked for, and at home.
    async fn places(&self, recorded: Copies, problems: &mut Vec<Undistributed>) -> Vec<Place> {
        let home = Place {
            region: Arc::clone(self.home),
            id: self.ami.image_id().unwrap_or_default().to_owned(),
            fresh: false,
        };
        let mut places = Vec::new();
        for name in self.to.regions.iter().filter(|name| **name != self.home.name) {
            let fresh = !self.from.regions.contains(name) || !recorded.contains_key(name);
            if !fresh && !self.changes() {
                continue;
            }
            let Self { aws, home, ami, cancel, .. } = self;
            let recorded = recorded.get(name).map(String::as_str);
            match (copy::Wanted { aws, home, ami, name, recorded, cancel }).ensure().await {
                Ok(copy::Copied { region, id, is_new }) => {
                    places.push(Place { region, id, fresh: fresh || is_new });
                }
                Err(error) => {
                    problems.push(told(REGIONS, name, &error));
                    problems.extend(self.unshared(fresh, name, &error));
                }
            }
        }
        let others =
            recorded.into_iter().filter(|(name, _)| !self.to.regions.contains(name) && self.changes());
        for (name, id) in others {
            match self.aws.region(Some(&name)).await {
                Ok(region) => places.push(Place { region, id, fresh: false }),
                Err(error) => {
                    problems.push(told(REGIONS, &name, &error));
                    problems.extend(self.unshared(false, &name, &error));
                }
            }
        }
        places.push(home);
        places
    }

    /// A copy that is there is out of reach: it stays shared as it was.
    fn unshared(&self, fresh: bool, region: &str, error: &dyn std::error::Error) -> Option<Undistributed> {
        (!fresh && self.from.share != self.to.share).then(|| told(share::SHARE, region, error))
    }

    fn changes(&self) -> bool {
        self.from.share != self.to.share || self.from.deprecate_after != self.to.deprecate_after
    }

    /// Shares and ages the image in one place. `shared` is what was asked for before.
    async fn settle(&self, place: &Place, shared: Option<&Share>, marked: bool) -> Vec<Undistributed> {
        let mut problems = Vec::new();
        let (from, to) = (self.from, self.to);
        let managed = shared.is_some() || to.share.is_some();
        if managed && (place.fresh || marked || from.share != to.share) {
            let brought = share::apply(&place.region, &place.id, shared, to.share.as_ref());
            let stopped = || vec![told(share::SHARE, &place.region.name, &copy::Stopped)];
            problems.extend(self.cancel.run_until_cancelled(brought).await.unwrap_or_else(stopped));
        }
        let ages = if place.fresh {
            to.deprecate_after.is_some()
        } else {
            from.deprecate_after != to.deprecate_after
        };
        if ages || marked {
            let aged = self.unless_stopped(self.age(place)).await;
            problems.extend(aged.err().map(|error| told(DEPRECATE, &place.region.name, &*error)));
        }
        problems
    }

    async fn age(&self, place: &Place) -> Result<(), AwsError> {
        let Some(now) = place.region.image(&place.id).await? else { return Ok(()) };
        let seen = read::deprecated_at(&now);
        let due = self.to.deprecate_after.and_then(|after| deprecation(read::created_at(self.ami), after));
        let ec2 = &place.region.ec2;
        match due {
            Some(due) if !ages_as(due, seen, Utc::now()) => {
                let done = ec2
                    .enable_image_deprecation()
                    .image_id(&place.id)
                    .deprecate_at(not_past(due))
                    .send()
                    .await;
                done.map(drop).map_err(|error| AwsError::of("EnableImageDeprecation", error))?;
            }
            None if seen.is_some() => {
                let done = ec2.disable_image_deprecation().image_id(&place.id).send().await;
                done.map(drop).map_err(|error| AwsError::of("DisableImageDeprecation", error))?;
            }
            _ => return Ok(()),
        }
        place.region.fresh_image(&place.id).await.map(drop)
    }

    /// Notes on the home image whether something is left to do for a copy.
    async fn mark(&self, place: &Place, marked: bool, finished: bool) -> Result<(), AwsError> {
        let (id, key) =
            (self.ami.image_id().unwrap_or_default(), format!("{}{}", tags::UNFINISHED, place.region.name));
        match (finished, place.fresh || marked) {
            (true, true) => self.home.untag([id], [key]).await,
            (false, _) => self.home.tag([id], [(key, "sharing".to_owned())]).await,
            (true, false) => Ok(()),
        }
    }

    fn is_marked(&self, all: &BTreeMap<String, String>, region: &str) -> bool {
        read::unfinished(all).any(|name| name == region)
    }

    /// Removes a copy with its snapshots, and then its record. One that was begun may have none.
    async fn remove(&self, name: &str, id: Option<&str>, begun: bool) -> Result<(), DeleteError> {
        let region = self.aws.region(Some(name)).await?;
        let mut stays = Vec::new();
        if let Some(id) = id {
            stays.extend(delete::by_id(&region, id, self.cancel).await?);
        }
        if begun {
            let of = copy::origin(self.home, self.ami);
            stays.extend(delete::unrecorded(&region, &of, self.cancel).await?);
        }
        for left in stays {
            tracing::warn!(region = name, left, "something of a copy stays");
        }
        let keys = [format!("{}{name}", tags::COPY), format!("{}{name}", tags::UNFINISHED)];
        Ok(self.home.untag(self.ami.image_id(), keys).await?)
    }
}

/// EC2 takes no time in the past: then the image ages at once.
fn not_past(due: DateTime<Utc>) -> SdkTime {
    SdkTime::from_secs(due.max(Utc::now() + TimeDelta::minutes(2)).timestamp())
}

fn told(attribute: &str, region: &str, error: &dyn std::error::Error) -> Undistributed {
    Undistributed { attribute: attribute.to_owned(), problem: format!("In {region}: {}", causes(error)) }
}
