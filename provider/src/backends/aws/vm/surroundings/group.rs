//! The security group of a launch: made, found, removed.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_ec2::types::{ResourceType, SecurityGroup};
use tokio_util::sync::CancellationToken;

use super::name;
use crate::backends::aws::region::{Region, filter};
use crate::backends::aws::vm::VmError;
use crate::backends::aws::waiting::wait;
use crate::backends::aws::{AwsError, tags};

/// How long a security group may still count as in use after its instance has ended.
const IN_USE_LOOKS: u32 = 30;

/// Makes a security group of a launch or a build, in the default VPC when none is named. Returns its id.
pub(in crate::backends::aws) async fn make_group(
    region: &Region,
    launch: &str,
    vpc: Option<String>,
    tags: &BTreeMap<String, String>,
) -> Result<String, AwsError> {
    let made = region
        .ec2
        .create_security_group()
        .group_name(name(launch))
        .description("SSH to one machine, made and removed by Sindri")
        .set_vpc_id(vpc)
        .tag_specifications(tags::specification(ResourceType::SecurityGroup, tags))
        .send()
        .await;
    match made.map_err(|error| AwsError::of("CreateSecurityGroup", error)) {
        Ok(group) => {
            group.group_id.ok_or(AwsError::Incomplete { operation: "CreateSecurityGroup", what: "group id" })
        }
        Err(error) if error.code() == Some("InvalidGroup.Duplicate") => {
            let there = described(region, "group-name", &name(launch)).await?;
            there.into_iter().find_map(|group| group.group_id).ok_or(error)
        }
        Err(error) => Err(error),
    }
}

pub(in crate::backends::aws) async fn remove_group(
    region: &Region,
    group: &str,
    cancel: &CancellationToken,
) -> Result<(), VmError> {
    let mut pause = Duration::from_millis(500);
    for look in 0.. {
        let deleted = region.ec2.delete_security_group().group_id(group).send().await;
        match deleted.map_err(|error| AwsError::of("DeleteSecurityGroup", error)) {
            Err(error) if error.code() == Some("DependencyViolation") && look < IN_USE_LOOKS => {
                pause = wait(pause, cancel).await?;
            }
            Err(error) if error.is_gone() => return Ok(()),
            other => return other.map(drop).map_err(VmError::from),
        }
    }
    Ok(())
}

/// Security groups of a launch: one, or none.
pub(in crate::backends::aws::vm) async fn groups(
    region: &Region,
    launch: &str,
) -> Result<Vec<String>, AwsError> {
    let found = described(region, &format!("tag:{}", tags::VM), launch).await?;
    Ok(found.iter().filter_map(|group| group.group_id().map(str::to_owned)).collect())
}

pub(super) async fn described(
    region: &Region,
    by: &str,
    value: &str,
) -> Result<Vec<SecurityGroup>, AwsError> {
    let found = region.ec2.describe_security_groups().filters(filter(by, [value])).send().await;
    let found = found.map_err(|error| AwsError::of("DescribeSecurityGroups", error))?;
    Ok(found.security_groups.unwrap_or_default())
}
