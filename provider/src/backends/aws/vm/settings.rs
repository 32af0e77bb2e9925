//! Settings that change while a machine runs: its security groups, its role, who gets its metadata.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::{HttpTokensState, Instance};

use tokio_util::sync::CancellationToken;

use super::launch::{is_early, profile};
use super::{AwsVmSpec, VmError, names_profile, surroundings};
use crate::backends::aws::AwsError;
use crate::backends::aws::region::{Region, filter};
use crate::backends::aws::waiting::{WaitError, once_known};

/// Whether `allowed_cidrs` can be had: by a group that was made for the machine, which there is none of when somebody else
/// launched it.
pub(super) async fn check_networks(
    region: &Region,
    launch: Option<&str>,
    spec: &AwsVmSpec,
) -> Result<Vec<String>, VmError> {
    if !spec.security_group_ids.is_empty() {
        return Ok(Vec::new());
    }
    let groups = match launch {
        Some(launch) => surroundings::groups(region, launch).await?,
        None => Vec::new(),
    };
    if groups.is_empty() && spec.allowed_cidrs.as_ref().is_some_and(|cidrs| !cidrs.is_empty()) {
        let problem = "the machine has no security group that Sindri made, which would let these networks in: somebody else launched it, or removed the group. Leave `allowed_cidrs` out, and set `security_group_ids` to its groups";
        return Err(VmError::Refused { attribute: "aws.allowed_cidrs", problem: problem.to_owned() });
    }
    Ok(groups)
}

/// Sets what differs from what is asked for.
pub(super) async fn change(
    region: &Region,
    instance: &Instance,
    spec: &AwsVmSpec,
    cancel: &CancellationToken,
) -> Result<(), VmError> {
    let id = instance.instance_id().unwrap_or_default();
    let wanted: BTreeSet<&str> = spec.security_group_ids.iter().map(String::as_str).collect();
    let there: BTreeSet<&str> = instance.security_groups().iter().filter_map(|it| it.group_id()).collect();
    if !wanted.is_empty() && wanted != there {
        let groups = Some(wanted.into_iter().map(str::to_owned).collect());
        let done = region.ec2.modify_instance_attribute().instance_id(id).set_groups(groups).send().await;
        let done = done.map_err(|error| AwsError::of("ModifyInstanceAttribute", error));
        done.map_err(|error| VmError::launching(error, "", &region.name))?;
    }
    let wanted = if spec.imdsv2_required { HttpTokensState::Required } else { HttpTokensState::Optional };
    if instance.metadata_options().and_then(|options| options.http_tokens()).is_some_and(|it| *it != wanted) {
        let asked = region.ec2.modify_instance_metadata_options().instance_id(id).http_tokens(wanted);
        asked.send().await.map_err(|error| AwsError::of("ModifyInstanceMetadataOptions", error))?;
    }
    let there = instance.iam_instance_profile().and_then(|it| it.arn());
    match spec.iam_instance_profile.as_deref() {
        Some(wanted) if !there.is_some_and(|arn| names_profile(wanted, arn)) => {
            let is_early = |error: &AwsError| is_early(error, false);
            let changed = once_known(cancel, is_early, || change_profile(region, id, wanted)).await;
            changed.map_err(|error| match error {
                WaitError::Aws(error) => VmError::launching(error, "", &region.name),
                WaitError::Cancelled => VmError::Cancelled,
            })
        }
        _ => Ok(()),
    }
}

async fn change_profile(region: &Region, id: &str, wanted: &str) -> Result<(), AwsError> {
    let asked = region.ec2.describe_iam_instance_profile_associations();
    let asked =
        asked.filters(filter("instance-id", [id])).filters(filter("state", ["associated", "associating"]));
    let found =
        asked.send().await.map_err(|error| AwsError::of("DescribeIamInstanceProfileAssociations", error))?;
    let there = found.iam_instance_profile_associations().first().and_then(|it| it.association_id());
    match there {
        Some(association) => {
            let asked = region.ec2.replace_iam_instance_profile_association().association_id(association);
            let done = asked.iam_instance_profile(profile(wanted)).send().await;
            done.map(drop).map_err(|error| AwsError::of("ReplaceIamInstanceProfileAssociation", error))
        }
        None => {
            let asked = region.ec2.associate_iam_instance_profile().instance_id(id);
            let done = asked.iam_instance_profile(profile(wanted)).send().await;
            done.map(drop).map_err(|error| AwsError::of("AssociateIamInstanceProfile", error))
        }
    }
}
