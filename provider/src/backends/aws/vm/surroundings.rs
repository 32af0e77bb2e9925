//! What is made for a machine beside its instance: a key pair, and a security group where the user gives
//! networks. Both carry the launch's tag, so that they are found and removed whatever became of the launch.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_ec2::primitives::Blob;
use aws_sdk_ec2::types::{IpPermission, IpRange, Ipv6Range, ResourceType, Tag};
use tokio_util::sync::CancellationToken;

use super::VmError;
use super::status::wait;
use crate::backends::aws::region::{Region, filter};
use crate::backends::aws::{AwsError, tags};

/// How long a security group may still count as in use after its instance has ended.
const IN_USE_LOOKS: u32 = 30;

/// The name of a launch's key pair and security group.
pub(super) fn name(launch: &str) -> String {
    format!("sindri-{launch}")
}

/// Imports the public half of a machine's key. Returns the pair's id.
pub(super) async fn import_key(
    region: &Region,
    launch: &str,
    public_key: &str,
    tags: &BTreeMap<String, String>,
) -> Result<String, AwsError> {
    let imported = region
        .ec2
        .import_key_pair()
        .key_name(name(launch))
        .public_key_material(Blob::new(public_key.trim_end()))
        .tag_specifications(tags::specification(ResourceType::KeyPair, tags))
        .send()
        .await;
    match imported.map_err(|error| AwsError::of("ImportKeyPair", error)) {
        Ok(pair) => Ok(pair.key_pair_id.unwrap_or_default()),
        // The reply to an earlier attempt was lost: the name is this launch's own.
        Err(error) if error.code() == Some("InvalidKeyPair.Duplicate") => {
            let pairs = key_pairs(region, "key-name", &name(launch)).await?;
            pairs.into_iter().next().map(|(_, id, _)| id).ok_or(error)
        }
        Err(error) => Err(error),
    }
}

/// Makes a security group that lets these networks reach a port. Returns its id.
pub(super) async fn make_group(
    region: &Region,
    launch: &str,
    subnet_id: Option<&str>,
    tags: &BTreeMap<String, String>,
) -> Result<String, AwsError> {
    let vpc = match subnet_id {
        None => None,
        Some(subnet) => {
            let found = region.ec2.describe_subnets().subnet_ids(subnet).send().await;
            let found = found.map_err(|error| AwsError::of("DescribeSubnets", error))?;
            found.subnets().first().and_then(|subnet| subnet.vpc_id()).map(str::to_owned)
        }
    };
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
            groups(region, launch).await?.into_iter().next().ok_or(error)
        }
        Err(error) => Err(error),
    }
}

/// Lets exactly these networks reach a port.
pub(super) async fn admit(region: &Region, group: &str, cidrs: &[String], port: u16) -> Result<(), AwsError> {
    let described = region.ec2.describe_security_groups().group_ids(group).send().await;
    let described = described.map_err(|error| AwsError::of("DescribeSecurityGroups", error))?;
    let before: Vec<IpPermission> =
        described.security_groups().first().map(|group| group.ip_permissions().to_vec()).unwrap_or_default();
    let admitted: Vec<String> = before.iter().flat_map(networks).collect();
    let fresh: Vec<&String> = cidrs.iter().filter(|cidr| !admitted.contains(cidr)).collect();
    let stale: Vec<&String> = admitted.iter().filter(|cidr| !cidrs.contains(cidr)).collect();
    if !fresh.is_empty() {
        let asked = region.ec2.authorize_security_group_ingress().group_id(group);
        let done = asked.ip_permissions(permission(&fresh, port)).send().await;
        let done = done.map_err(|error| AwsError::of("AuthorizeSecurityGroupIngress", error));
        match done {
            Err(error) if error.code() == Some("InvalidPermission.Duplicate") => {}
            other => drop(other?),
        }
    }
    if !stale.is_empty() {
        let asked = region.ec2.revoke_security_group_ingress().group_id(group);
        let done = asked.ip_permissions(permission(&stale, port)).send().await;
        done.map_err(|error| AwsError::of("RevokeSecurityGroupIngress", error))?;
    }
    Ok(())
}

fn networks(permission: &IpPermission) -> Vec<String> {
    let four = permission.ip_ranges().iter().filter_map(|range| range.cidr_ip());
    let six = permission.ipv6_ranges().iter().filter_map(|range| range.cidr_ipv6());
    four.chain(six).map(str::to_owned).collect()
}

fn permission(cidrs: &[&String], port: u16) -> IpPermission {
    let mut permission =
        IpPermission::builder().ip_protocol("tcp").from_port(port.into()).to_port(port.into());
    for cidr in cidrs {
        permission = if cidr.contains(':') {
            permission.ipv6_ranges(Ipv6Range::builder().cidr_ipv6(*cidr).build())
        } else {
            permission.ip_ranges(IpRange::builder().cidr_ip(*cidr).build())
        };
    }
    permission.build()
}

/// Says on key pair and group whose they are, so that they are found when the instance is gone.
pub(super) async fn belong_to(region: &Region, objects: Vec<String>, instance: &str) -> Result<(), AwsError> {
    let tag = Tag::builder().key(tags::INSTANCE).value(instance).build();
    let done = region.ec2.create_tags().set_resources(Some(objects)).tags(tag).send().await;
    done.map(drop).map_err(|error| AwsError::of("CreateTags", error))
}

/// The launch whose key pair was made for an instance.
pub(super) async fn launch_for(region: &Region, instance: &str) -> Result<Option<String>, AwsError> {
    let pairs = key_pairs(region, &format!("tag:{}", tags::INSTANCE), instance).await?;
    Ok(pairs.into_iter().find_map(|(_, _, launch)| launch))
}

/// Removes what was made for a launch. What is gone already is fine.
pub(super) async fn remove(region: &Region, launch: &str, cancel: &CancellationToken) -> Result<(), VmError> {
    let deleted = region.ec2.delete_key_pair().key_name(name(launch)).send().await;
    match deleted.map_err(|error| AwsError::of("DeleteKeyPair", error)) {
        Err(error) if error.is_gone() => {}
        other => drop(other?),
    }
    for group in groups(region, launch).await? {
        remove_group(region, &group, cancel).await?;
    }
    Ok(())
}

async fn remove_group(region: &Region, group: &str, cancel: &CancellationToken) -> Result<(), VmError> {
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
pub(super) async fn groups(region: &Region, launch: &str) -> Result<Vec<String>, AwsError> {
    let by_tag = filter(&format!("tag:{}", tags::VM), [launch]);
    let found = region.ec2.describe_security_groups().filters(by_tag).send().await;
    let found = found.map_err(|error| AwsError::of("DescribeSecurityGroups", error))?;
    Ok(found.security_groups().iter().filter_map(|group| group.group_id().map(str::to_owned)).collect())
}

/// Name, id and launch of key pairs.
async fn key_pairs(
    region: &Region,
    by: &str,
    value: &str,
) -> Result<Vec<(String, String, Option<String>)>, AwsError> {
    let found = region.ec2.describe_key_pairs().filters(filter(by, [value])).send().await;
    let found = found.map_err(|error| AwsError::of("DescribeKeyPairs", error))?;
    let pairs = found.key_pairs().iter();
    Ok(pairs
        .map(|pair| {
            let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
            (text(pair.key_name()), text(pair.key_pair_id()), tags::map(pair.tags()).remove(tags::VM))
        })
        .collect())
}
