//! Where else an image is, who may use it, and when it ages: made after it is complete, changed in place.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// What is asked for beside the image itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distribution {
    /// Regions that get a copy.
    pub regions: BTreeSet<String>,
    /// Who else may use it; none when that is not managed.
    pub share: Option<Share>,
    /// How long after it was finished it counts as deprecated.
    pub deprecate_after: Option<Duration>,
}

/// Who else may use an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Share {
    /// Accounts and organisations, in the cloud's own words.
    pub with: BTreeSet<String>,
    /// Everybody.
    pub public: bool,
}

/// What leads from the sharing that is there to what is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShareChange {
    /// Who gets it.
    pub add: BTreeSet<String>,
    /// Who loses it.
    pub remove: BTreeSet<String>,
    /// Whether everybody gets or loses it.
    pub public: Option<bool>,
}

/// Something that was not done; the rest was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undistributed {
    /// The attribute that asks for it, dots between its parts.
    pub attribute: String,
    /// What went wrong where, and what to do.
    pub problem: String,
}

/// Copies of an image: region and id.
pub type Copies = BTreeMap<String, String>;

impl Distribution {
    /// Whether everybody is to have it.
    pub fn is_public(&self) -> bool {
        self.share.as_ref().is_some_and(|share| share.public)
    }
}

impl ShareChange {
    /// From what a resource asked for to what it asks for now. What others share stays; `public` is exact as long as
    /// sharing is managed. Without `from`, nothing was asked for yet.
    pub fn between(from: Option<&Share>, to: Option<&Share>, seen: &Share) -> Self {
        let nobody = Share::default();
        let (before, after) = (from.unwrap_or(&nobody), to.unwrap_or(&nobody));
        let given_up = before.with.difference(&after.with).cloned().collect::<BTreeSet<_>>();
        let public = to.is_some() || before.public;
        Self {
            add: after.with.difference(&seen.with).cloned().collect(),
            remove: given_up.intersection(&seen.with).cloned().collect(),
            public: (public && seen.public != after.public).then_some(after.public),
        }
    }
}

/// When an image ages: to the minute, as EC2 rounds it.
pub fn deprecation(created_at: DateTime<Utc>, after: Duration) -> Option<DateTime<Utc>> {
    let at = created_at.checked_add_signed(TimeDelta::from_std(after).ok()?)?;
    DateTime::from_timestamp((at.timestamp() + 30).div_euclid(60) * 60, 0)
}

/// Whether an image ages when it should. Where that time has passed, any other that has passed will do: clouds take no
/// time in the past.
pub fn ages_as(expected: DateTime<Utc>, seen: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    let Some(seen) = seen else { return false };
    let past = expected <= now && seen <= now + TimeDelta::minutes(5);
    past || (expected - seen).abs() <= TimeDelta::minutes(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(with: &[&str], public: bool) -> Share {
        Share { with: with.iter().map(|one| (*one).to_owned()).collect(), public }
    }

    #[test]
    fn others_shares_stay() {
        let change = |from: Option<&Share>, to: Option<&Share>, seen: &Share| {
            let change = ShareChange::between(from, to, seen);
            let list = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>().join(" ");
            (list(change.add), list(change.remove), change.public)
        };
        let (ab, bc, theirs) = (share(&["a", "b"], false), share(&["b", "c"], true), share(&["x"], true));
        let told = |add: &str, remove: &str, public| (add.to_owned(), remove.to_owned(), public);
        assert_eq!(change(None, Some(&ab), &Share::default()), told("a b", "", None));
        assert_eq!(change(Some(&ab), Some(&bc), &share(&["a", "b", "x"], false)), told("c", "a", Some(true)));
        assert_eq!(change(None, Some(&ab), &theirs), told("a b", "", Some(false)));
        assert_eq!(change(Some(&bc), None, &share(&["c", "x"], true)), told("", "c", Some(false)));
        assert_eq!(change(None, None, &theirs), told("", "", None));
        // What an import finds as it should be is not written again.
        assert_eq!(change(None, Some(&bc), &share(&["b", "c", "x"], true)), told("", "", None));
    }

    #[test]
    fn ages_are_rounded_to_minutes_and_the_past_is_the_past() {
        let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().to_utc();
        let (created, now) = (at("2026-01-01T00:00:31Z"), at("2026-06-01T00:00:00Z"));
        let due = deprecation(created, Duration::from_secs(3600)).unwrap();
        assert_eq!(due, at("2026-01-01T01:01:00Z"));
        assert!(ages_as(due, Some(at("2026-05-01T00:00:00Z")), now), "both are past");
        assert!(!ages_as(due, None, now));
        let due = deprecation(created, Duration::from_secs(400 * 86400)).unwrap();
        assert!(ages_as(due, Some(due), now));
        assert!(!ages_as(due, Some(due + TimeDelta::hours(1)), now));
        assert_eq!(deprecation(created, Duration::MAX), None);
    }
}
