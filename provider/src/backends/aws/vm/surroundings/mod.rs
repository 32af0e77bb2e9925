//! What is made for a machine beside its instance: a key pair, and a security group where the user gives
//! networks. Both carry the launch's tag, so that they are found and removed whatever became of the launch.

mod group;
mod key_pair;
mod network;
mod rules;

use aws_sdk_ec2::types::{HttpTokensState, Instance};
use tokio_util::sync::CancellationToken;

pub(super) use self::group::groups;
pub(in crate::backends::aws) use self::group::{make_group, remove_group};
pub(in crate::backends::aws) use self::key_pair::import_key;
pub(in crate::backends::aws) use self::network::{subnet_in, vpc_of};
pub(in crate::backends::aws) use self::rules::admit_first;
pub(super) use self::rules::{UNKNOWN_GROUP, admit};
use self::{group::described, key_pair::key_pairs, rules::rules};
use super::VmError;
use super::status::launch_of;
use crate::backends::aws::region::Region;
use crate::backends::aws::{AwsError, tags};
use crate::domain::Surroundings;

/// The name of a launch's key pair and security group.
pub(in crate::backends::aws) fn name(launch: &str) -> String {
    format!("sindri-{launch}")
}

/// What is around a machine. The groups of all machines are listed together.
pub(super) async fn seen(region: &Region, instance: &Instance) -> Result<Surroundings, AwsError> {
    let all = instance.security_groups();
    let own = launch_of(instance).map(|launch| name(&launch));
    let own = all.iter().find(|group| own.is_some() && group.group_name() == own.as_deref());
    let own = match own.and_then(|group| group.group_id()) {
        Some(id) => region.group(id).await?,
        None => None,
    };
    let admitted = own.map(|group| {
        let rules = group.ip_permissions().iter().flat_map(rules);
        rules.filter_map(|rule| Some((rule.port()?, rule.cidr))).collect()
    });
    let tokens = instance.metadata_options().and_then(|options| options.http_tokens());
    Ok(Surroundings {
        admitted,
        security_groups: all.iter().filter_map(|group| group.group_id().map(str::to_owned)).collect(),
        instance_profile: instance.iam_instance_profile().and_then(|it| it.arn()).map(str::to_owned),
        tokens_required: tokens.map(|tokens| *tokens == HttpTokensState::Required),
    })
}

/// Says on key pair and group whose they are, so that they are found when the instance is gone.
pub(super) async fn belong_to(region: &Region, objects: Vec<String>, instance: &str) -> Result<(), AwsError> {
    region.tag(objects, [(tags::INSTANCE.to_owned(), instance.to_owned())]).await
}

/// The launch that made an instance: an ended one keeps its tags for a while, its key pair for good.
pub(super) async fn launch_of_any(
    region: &Region,
    id: &str,
    instance: Option<&Instance>,
) -> Result<Option<String>, AwsError> {
    match instance.and_then(launch_of) {
        Some(launch) => Ok(Some(launch)),
        None => launch_for(region, id).await,
    }
}

/// Whether there is still something that was made for an instance.
pub(super) async fn left_of(
    region: &Region,
    id: &str,
    instance: Option<&Instance>,
) -> Result<bool, AwsError> {
    let Some(launch) = launch_of_any(region, id, instance).await? else { return Ok(false) };
    let pairs = key_pairs(region, "key-name", &name(&launch)).await?;
    Ok(!pairs.is_empty() || !groups(region, &launch).await?.is_empty())
}

/// The launch whose key pair or security group was made for an instance.
async fn launch_for(region: &Region, instance: &str) -> Result<Option<String>, AwsError> {
    let tag = format!("tag:{}", tags::INSTANCE);
    let pairs = key_pairs(region, &tag, instance).await?;
    if let Some(launch) = pairs.into_iter().find_map(|(_, _, launch)| launch) {
        return Ok(Some(launch));
    }
    let found = described(region, &tag, instance).await?;
    Ok(found.iter().find_map(|group| tags::map(group.tags()).remove(tags::VM)))
}

/// Removes what was made for a launch. What is gone already is fine. The group goes first: it may still be in
/// use, and is found by the key pair as well.
pub(super) async fn remove(region: &Region, launch: &str, cancel: &CancellationToken) -> Result<(), VmError> {
    for group in groups(region, launch).await? {
        remove_group(region, &group, cancel).await?;
    }
    let deleted = region.ec2.delete_key_pair().key_name(name(launch)).send().await;
    match deleted.map_err(|error| AwsError::of("DeleteKeyPair", error)) {
        Err(error) if error.is_gone() => Ok(()),
        other => other.map(drop).map_err(VmError::from),
    }
}
