//! Removes what a build left: looks, asks for all of it to go, and looks again until there is nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::look::{self, Thing, Wanted};
use super::{How, Kind, Remain, SweepError};
use crate::backends::aws::AwsError;
use crate::backends::aws::region::Region;

/// The pause between two looks, at first and at most.
const LOOK: Duration = Duration::from_secs(1);
/// See [`LOOK`].
const LONGEST_LOOK: Duration = Duration::from_secs(10);
/// How long AWS may take to let go of all.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// How many looks in a row must find nothing when something may still come up: a request of a killed build that is under
/// way, an instance that has not got around in EC2, the snapshot of an image that was removed while it was being made.
pub(super) const RESTLESS: u32 = 4;

/// Codes by which AWS says "not yet": something that is on its way out still uses it.
const NOT_YET: [&str; 8] = [
    "DependencyViolation",
    "InvalidSnapshot.InUse",
    "VolumeInUse",
    "InvalidGroup.InUse",
    "IncorrectState",
    "IncorrectInstanceState",
    "InvalidAMIID.Unavailable",
    "SnapshotCreationPerVolumeRateExceeded",
];

/// What came of removing a build's things, or of settling it.
#[derive(Debug)]
pub(super) struct Outcome<T> {
    /// What was done.
    pub(super) done: T,
    /// Why something is left.
    pub(super) stays: Option<SweepError>,
}

/// Removes all of a build but complete images. What AWS does not let go of keeps nothing else.
pub(super) async fn remove(
    region: &Region,
    mut wanted: Wanted,
    quiet_looks: u32,
    how: How,
    cancel: &CancellationToken,
) -> Outcome<BTreeSet<Remain>> {
    let mut removed = BTreeSet::new();
    let stays = remove_all(region, &mut wanted, quiet_looks, how, &mut removed, cancel).await.err();
    Outcome { done: removed, stays }
}

/// Removes; `removed` is what is gone, also when something stays.
async fn remove_all(
    region: &Region,
    wanted: &mut Wanted,
    mut quiet_looks: u32,
    how: How,
    removed: &mut BTreeSet<Remain>,
    cancel: &CancellationToken,
) -> Result<(), SweepError> {
    let (mut quiet, mut pause) = (0, LOOK);
    let until = if let How::Until(until) = how { until } else { Instant::now() + LONGEST };
    let mut asked = BTreeSet::new();
    loop {
        let found = look::of_build(region, wanted).await?;
        if found.iter().any(|thing| thing.kind == Kind::Image) {
            quiet_looks = RESTLESS;
        }
        let left: BTreeSet<Remain> = found.iter().map(|it| it.remain(region, &wanted.build)).collect();
        removed.extend(asked.difference(&left).cloned());
        let refused = remove_each(region, &found).await;
        asked.extend(left.iter().cloned());
        // Nothing changes any more when there is nothing, or all that there is was refused for good.
        quiet = if refused.iter().filter(|it| it.for_good).count() == found.len() { quiet + 1 } else { 0 };
        if found.is_empty() && quiet >= quiet_looks {
            return Ok(());
        }
        let is_stuck = !found.is_empty() && quiet >= RESTLESS;
        if is_stuck || Instant::now() >= until {
            return Err(stays(&left, &refused, is_stuck || how == How::Really));
        }
        tokio::select! {
            () = tokio::time::sleep_until(until.min(Instant::now() + pause)) => {
                pause = LONGEST_LOOK.min(pause.mul_f32(1.5));
            }
            () = cancel.cancelled() => return Err(SweepError::Cancelled),
        }
    }
}

/// Why a build is not gone: for good, or for now.
fn stays(left: &BTreeSet<Remain>, refused: &[Refused], for_good: bool) -> SweepError {
    let mut what = left.iter().map(Remain::to_string).collect::<Vec<_>>().join(", ");
    let why: BTreeSet<&str> = refused.iter().map(|it| it.why.as_str()).collect();
    let mut why = why.into_iter().collect::<Vec<_>>().join("; ");
    if what.is_empty() {
        "what AWS may still make".clone_into(&mut what);
        "it was asked for a short while ago".clone_into(&mut why);
    } else if why.is_empty() {
        "it is still there".clone_into(&mut why);
    }
    if for_good { SweepError::Stays { what, why } } else { SweepError::Late { what, why } }
}

/// One thing that does not go.
struct Refused {
    why: String,
    /// Not only until something else is gone.
    for_good: bool,
}

/// Asks for each to go. Returns why some of them do not.
async fn remove_each(region: &Region, found: &[Thing]) -> Vec<Refused> {
    let (mut refused, mut has_ending, mut has_stuck) = (Vec::new(), false, false);
    for thing in found {
        if has_ending && matches!(thing.kind, Kind::Volume | Kind::SecurityGroup | Kind::LaunchTemplate) {
            // In use until the instance has ended, or that is found by it; most volumes end with it.
            continue;
        }
        let why = remove_one(region, thing).await.err().filter(|error| !error.is_gone());
        // Nothing waits for what is in use by something that stays.
        let for_good = why.as_ref().is_some_and(|error| !is_for_now(error, has_stuck));
        has_stuck |= for_good && matches!(thing.kind, Kind::Instance | Kind::Image);
        has_ending |= !for_good && thing.kind == Kind::Instance;
        refused.extend(why.map(|error| Refused { why: error.to_string(), for_good }));
    }
    refused
}

/// Whether a refusal will pass.
fn is_for_now(error: &AwsError, has_stuck: bool) -> bool {
    let is_not_yet = error.code().is_some_and(|code| NOT_YET.contains(&code));
    error.is_ambiguous() || (is_not_yet && !has_stuck)
}

async fn remove_one(region: &Region, thing: &Thing) -> Result<(), AwsError> {
    let (ec2, id) = (&region.ec2, thing.id.as_str());
    macro_rules! ask {
        ($operation:literal, $asked:expr) => {
            $asked.send().await.map(drop).map_err(|error| AwsError::of($operation, error))
        };
    }
    match thing.kind {
        Kind::SpotRequest => ask!(
            "CancelSpotInstanceRequests",
            ec2.cancel_spot_instance_requests().spot_instance_request_ids(id)
        ),
        Kind::LaunchTemplate => {
            ask!("DeleteLaunchTemplate", ec2.delete_launch_template().launch_template_id(id))
        }
        Kind::Instance => ask!("TerminateInstances", ec2.terminate_instances().instance_ids(id)),
        Kind::Image => {
            ask!("DeregisterImage", ec2.deregister_image().image_id(id))?;
            region.forget_image(id).await;
            Ok(())
        }
        Kind::Snapshot => ask!("DeleteSnapshot", ec2.delete_snapshot().snapshot_id(id)),
        Kind::Volume => ask!("DeleteVolume", ec2.delete_volume().volume_id(id)),
        Kind::KeyPair => ask!("DeleteKeyPair", ec2.delete_key_pair().key_pair_id(id)),
        Kind::SecurityGroup => ask!("DeleteSecurityGroup", ec2.delete_security_group().group_id(id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_passes_unless_what_it_waits_for_stays() {
        let refused = |code: &str| AwsError::Refused {
            operation: "DeleteVolume",
            code: code.into(),
            message: String::new(),
            request_id: String::new(),
        };
        let (action, message, request_id) = ("ec2:DeleteVolume".into(), String::new(), String::new());
        let denied = AwsError::Denied { action, message, request_id };
        for (error, has_stuck, for_now) in [
            (refused("VolumeInUse"), false, true),
            (refused("VolumeInUse"), true, false),
            (refused("InternalError"), true, true),
            (refused("OperationNotPermitted"), false, false),
            (denied, false, false),
        ] {
            assert_eq!(is_for_now(&error, has_stuck), for_now, "{error}");
        }
    }

    #[test]
    fn what_stays_says_why_and_what_to_do() {
        let left: BTreeSet<Remain> = ["vol-1", "vol-2"]
            .map(|id| Remain { kind: Kind::Volume, id: id.into(), region: "r".into(), build: "b".into() })
            .into();
        let refused =
            [Refused { why: "no".into(), for_good: true }, Refused { why: "no".into(), for_good: true }];
        let told = stays(&left, &refused, true).to_string();
        assert!(told.starts_with(
            "volume vol-1 in r of build b, volume vol-2 in r of build b cannot be removed: no\n"
        ));
        assert!(stays(&left, &[], false).to_string().contains("not gone yet: it is still there\n"));
        assert!(stays(&BTreeSet::new(), &[], false).to_string().starts_with("what AWS may still make"));
    }
}
