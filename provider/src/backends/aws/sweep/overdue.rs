//! Builds whose deadline has passed and that left something.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::look::{self, Thing};
use crate::backends::aws::region::Region;
use crate::backends::aws::{AwsError, tags};

/// How long a build may go on after its time: Packer ends (5 minutes), we remove what it made (5 minutes), and the clock
/// of whoever looks may be ahead (30 minutes).
const GRACE: TimeDelta = TimeDelta::minutes(40);

/// When a build must be over on every clock, whose time ends then.
pub(in crate::backends::aws) fn over_by(end: DateTime<Utc>) -> DateTime<Utc> {
    end.checked_add_signed(GRACE).unwrap_or(end)
}

/// Their ids, with what carries a deadline of theirs.
pub(super) async fn overdue(
    region: &Region,
    now: DateTime<Utc>,
) -> Result<BTreeMap<Uuid, Vec<Thing>>, AwsError> {
    // A thing that is not past its deadline makes no build overdue.
    if !look::may_be_overdue(region, now).await? {
        return Ok(BTreeMap::new());
    }
    Ok(past(look::with_deadline(region).await?, tags::BUILD, now))
}

/// Launches, in the same way. Asks for no more than whoever launches machines may ask for.
pub(super) async fn overdue_launches(
    region: &Region,
    now: DateTime<Utc>,
) -> Result<BTreeMap<Uuid, Vec<Thing>>, AwsError> {
    Ok(past(look::launched_with_deadline(region).await?, tags::VM, now))
}

/// The builds or launches among these whose last deadline has passed. What does not read as ours is nobody's.
fn past(things: Vec<Thing>, id: &str, now: DateTime<Utc>) -> BTreeMap<Uuid, Vec<Thing>> {
    let mut builds: BTreeMap<Uuid, (Option<DateTime<Utc>>, Vec<Thing>)> = BTreeMap::new();
    for thing in things {
        let Some(build) = thing.tags.get(id).and_then(|text| text.parse().ok()) else { continue };
        let deadline = look::deadline(thing.tags.get(tags::DEADLINE).map(String::as_str));
        let (last, all) = builds.entry(build).or_insert((Some(DateTime::<Utc>::MIN_UTC), Vec::new()));
        // One that cannot be read spares the build.
        *last = last.zip(deadline).map(|(last, deadline)| last.max(deadline));
        all.push(thing);
    }
    let is_past = |last: Option<DateTime<Utc>>| last.is_some_and(|last| last < now);
    builds.into_iter().filter(|(_, (last, _))| is_past(*last)).map(|(build, (_, all))| (build, all)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    #[test]
    fn a_build_that_cleans_up_late_is_not_overdue() {
        let end = DateTime::parse_from_rfc3339("2026-01-02T03:00:00Z").unwrap().to_utc();
        assert_eq!(over_by(end).to_rfc3339(), "2026-01-02T03:40:00+00:00");
        assert_eq!(over_by(DateTime::<Utc>::MAX_UTC), DateTime::<Utc>::MAX_UTC);
    }

    #[test]
    fn only_builds_that_must_have_ended_are_overdue() {
        let (one, other) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
        let thing = |build: &str, deadline: &str| {
            let tags = [(tags::BUILD, build), (tags::DEADLINE, deadline)];
            let tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            Thing { kind: Kind::Volume, id: "vol-1".into(), tags }
        };
        let now = DateTime::parse_from_rfc3339("2026-01-02T03:00:00Z").unwrap().to_utc();
        let (early, late) = ("2026-01-02T02:59:59+00:00", "2026-01-02T03:00:00Z");
        for (things, expected) in [
            (vec![], vec![]),
            (vec![thing(&one, early)], vec![(&one, 1)]),
            (vec![thing(&one, late)], vec![]),
            (vec![thing(&one, early), thing(&one, late)], vec![]),
            (vec![thing(&one, early), thing(&one, "soon")], vec![]),
            (vec![thing(&one, early), thing(&other, late), thing(&one, early)], vec![(&one, 2)]),
            (vec![thing("*", early), thing("", early)], vec![]),
        ] {
            let told = format!("{things:?}");
            let found = past(things, tags::BUILD, now);
            let found: Vec<(String, usize)> =
                found.into_iter().map(|(build, things)| (build.to_string(), things.len())).collect();
            let expected: Vec<(String, usize)> =
                expected.into_iter().map(|(build, count)| (build.clone(), count)).collect();
            assert_eq!(found, expected, "{told}");
        }
    }
}
