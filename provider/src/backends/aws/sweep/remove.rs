//! Removes what a build left: looks, asks for all of it to go, and looks again until there is nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::look::{self, Thing, Wanted};
use super::{Kind, Remain, SweepError};
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

/// Removes all of a build but complete images. Returns what there was.
///
/// # Errors
/// When AWS refuses, keeps something in use for long, or when cancelled.
pub(super) async fn remove(
    region: &Region,
    mut wanted: Wanted,
    mut quiet_looks: u32,
    cancel: &CancellationToken,
) -> Result<BTreeSet<Remain>, SweepError> {
    let (mut removed, mut quiet, mut pause) = (BTreeSet::new(), 0, LOOK);
    let begun = Instant::now();
    loop {
        let found = look::of_build(region, &mut wanted).await?;
        if found.is_empty() {
            quiet += 1;
            if quiet >= quiet_looks {
                return Ok(removed);
            }
        } else {
            quiet = 0;
        }
        if found.iter().any(|thing| thing.kind == Kind::Image) {
            quiet_looks = RESTLESS;
        }
        let refused = remove_each(region, &found).await?;
        removed.extend(found.iter().map(|thing| thing.remain(region, &wanted.build)));
        if begun.elapsed() > LONGEST {
            let what: Vec<String> =
                found.iter().map(|thing| thing.remain(region, &wanted.build).to_string()).collect();
            let why = refused.unwrap_or_else(|| "it is still there".to_owned());
            return Err(SweepError::Stays { what: what.join(", "), why });
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = LONGEST_LOOK.min(pause.mul_f32(1.5)),
            () = cancel.cancelled() => return Err(SweepError::Cancelled),
        }
    }
}

/// Asks for each to go. Returns why one of them does not yet.
async fn remove_each(region: &Region, found: &[Thing]) -> Result<Option<String>, AwsError> {
    let has_instance = found.iter().any(|thing| thing.kind == Kind::Instance);
    let mut refused = None;
    for thing in found {
        if has_instance && matches!(thing.kind, Kind::Volume | Kind::SecurityGroup) {
            // In use until it has ended; most volumes end with it.
            continue;
        }
        match remove_one(region, thing).await {
            Err(error) if error.code().is_some_and(|code| NOT_YET.contains(&code)) => {
                refused = Some(error.to_string());
            }
            Err(error) if error.is_gone() => {}
            other => other?,
        }
    }
    Ok(refused)
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
        Kind::Instance => ask!("TerminateInstances", ec2.terminate_instances().instance_ids(id)),
        Kind::Image => {
            ask!("DeregisterImage", ec2.deregister_image().image_id(id))?;
            region.image_is_gone(id).await;
            Ok(())
        }
        Kind::Snapshot => ask!("DeleteSnapshot", ec2.delete_snapshot().snapshot_id(id)),
        Kind::Volume => ask!("DeleteVolume", ec2.delete_volume().volume_id(id)),
        Kind::KeyPair => ask!("DeleteKeyPair", ec2.delete_key_pair().key_pair_id(id)),
        Kind::SecurityGroup => ask!("DeleteSecurityGroup", ec2.delete_security_group().group_id(id)),
    }
}
