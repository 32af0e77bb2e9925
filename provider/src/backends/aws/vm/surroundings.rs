//! What is made for a machine beside its instance: a key pair, and a security group where the user gives
//! networks. Both carry the launch's tag, so that they are found and removed whatever became of the launch.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_sdk_ec2::primitives::Blob;
use aws_sdk_ec2::types::{
    HttpTokensState, Instance, IpPermission, IpRange, Ipv6Range, LocationType, ResourceType, SecurityGroup,
    Subnet,
};
use tokio_util::sync::CancellationToken;

use super::VmError;
use super::status::{launch_of, once_known, wait};
use crate::backends::aws::region::{Region, filter};
use crate::backends::aws::{AwsError, tags};
use crate::domain::Surroundings;

/// How long a security group may still count as in use after its instance has ended.
const IN_USE_LOOKS: u32 = 30;

/// What EC2 says of a security group that it does not know, or not yet.
pub(super) const UNKNOWN_GROUP: &str = "InvalidGroup.NotFound";

/// The description of the rules that we make, by which they are known when the port changes.
const OURS: &str = "SSH, by Sindri";

/// The name of a launch's key pair and security group.
pub(in crate::backends::aws) fn name(launch: &str) -> String {
    format!("sindri-{launch}")
}

/// Imports the public half of a machine's key. Returns the pair's id.
pub(in crate::backends::aws) async fn import_key(
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

/// The VPC that a subnet is in.
pub(in crate::backends::aws) async fn vpc_of(
    region: &Region,
    subnet: &str,
) -> Result<Option<String>, AwsError> {
    let found = region.ec2.describe_subnets().subnet_ids(subnet).send().await;
    let found = found.map_err(|error| AwsError::of("DescribeSubnets", error))?;
    Ok(found.subnets().first().and_then(|subnet| subnet.vpc_id()).map(str::to_owned))
}

/// The subnet of a VPC that has the most free addresses, where machines of this size are offered: as Packer chooses one for
/// its builder when it chooses (`StepNetworkInfo` in packer-plugin-amazon).
pub(in crate::backends::aws) async fn subnet_in(
    region: &Region,
    vpc: &str,
    instance_type: &str,
) -> Result<Option<String>, AwsError> {
    let asked = region.ec2.describe_subnets().filters(filter("vpc-id", [vpc]));
    let found = asked.filters(filter("state", ["available"])).send().await;
    let found = found.map_err(|error| AwsError::of("DescribeSubnets", error))?.subnets.unwrap_or_default();
    let zones = found.iter().filter_map(Subnet::availability_zone);
    let asked = region.ec2.describe_instance_type_offerings().location_type(LocationType::AvailabilityZone);
    let asked = asked.filters(filter("location", zones)).filters(filter("instance-type", [instance_type]));
    // Who may not ask takes the one with the most room.
    let offered =
        asked.send().await.ok().and_then(|answer| answer.instance_type_offerings).unwrap_or_default();
    let is_offered = |it: &Subnet| {
        offered.is_empty() || offered.iter().any(|offer| offer.location() == it.availability_zone())
    };
    let best = found.iter().filter(|it| is_offered(it)).max_by_key(|it| it.available_ip_address_count());
    Ok(best.and_then(Subnet::subnet_id).map(str::to_owned))
}

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

/// Lets these networks reach a port, in a group that was made just now and may not be known everywhere in EC2.
pub(in crate::backends::aws) async fn admit_first(
    region: &Region,
    group: &str,
    cidrs: &[String],
    port: u16,
    cancel: &CancellationToken,
) -> Result<(), VmError> {
    let fresh: Vec<&String> = cidrs.iter().collect();
    let is_early = |error: &AwsError| error.code() == Some(UNKNOWN_GROUP);
    once_known(cancel, is_early, || authorize(region, group, &fresh, port)).await
}

/// Lets exactly these networks reach a port. Rules that others made stay for other ports, and for this one when none are named.
pub(super) async fn admit(
    region: &Region,
    group: &str,
    cidrs: Option<&[String]>,
    port: u16,
) -> Result<(), AwsError> {
    let described = region.ec2.describe_security_groups().group_ids(group).send().await;
    let described = described.map_err(|error| AwsError::of("DescribeSecurityGroups", error))?;
    let before = described.security_groups().first().map(|group| group.ip_permissions()).unwrap_or_default();
    let rules: Vec<Rule> = before.iter().flat_map(rules).collect();
    let (fresh, stale) = difference(&rules, cidrs, port);
    authorize(region, group, &fresh, port).await?;
    if !stale.is_empty() {
        let stale = stale.into_iter().map(|rule| rule.permission.clone()).collect();
        let asked = region.ec2.revoke_security_group_ingress().group_id(group);
        let done = asked.set_ip_permissions(Some(stale)).send().await;
        done.map_err(|error| AwsError::of("RevokeSecurityGroupIngress", error))?;
    }
    Ok(())
}

async fn authorize(region: &Region, group: &str, cidrs: &[&String], port: u16) -> Result<(), AwsError> {
    if cidrs.is_empty() {
        return Ok(());
    }
    let asked = region.ec2.authorize_security_group_ingress().group_id(group);
    let done = asked.ip_permissions(permission(cidrs, port)).send().await;
    match done.map_err(|error| AwsError::of("AuthorizeSecurityGroupIngress", error)) {
        Err(error) if error.code() == Some("InvalidPermission.Duplicate") => Ok(()),
        other => other.map(drop),
    }
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

/// One network of a group's rule, which can be revoked by itself.
struct Rule {
    cidr: String,
    description: Option<String>,
    permission: IpPermission,
}

impl Rule {
    fn is_for(&self, port: u16) -> bool {
        self.port() == Some(port)
    }

    /// The port, when it is for one alone.
    fn port(&self) -> Option<u16> {
        let told = &self.permission;
        let is_one = told.ip_protocol() == Some("tcp") && told.from_port() == told.to_port();
        told.from_port().filter(|_| is_one).and_then(|port| port.try_into().ok())
    }
}

fn rules(permission: &IpPermission) -> Vec<Rule> {
    let alone = || {
        IpPermission::builder()
            .set_ip_protocol(permission.ip_protocol().map(str::to_owned))
            .set_from_port(permission.from_port())
            .set_to_port(permission.to_port())
    };
    let four = permission.ip_ranges().iter().filter_map(|range| {
        let permission = alone().ip_ranges(range.clone()).build();
        let description = range.description().map(str::to_owned);
        Some(Rule { cidr: range.cidr_ip()?.to_owned(), description, permission })
    });
    let six = permission.ipv6_ranges().iter().filter_map(|range| {
        let permission = alone().ipv6_ranges(range.clone()).build();
        let description = range.description().map(str::to_owned);
        Some(Rule { cidr: range.cidr_ipv6()?.to_owned(), description, permission })
    });
    four.chain(six).collect()
}

/// Networks still to admit, and rules to revoke: those of the port, where it is said who may reach it, and our own that nobody
/// asks for any more.
fn difference<'a>(
    rules: &'a [Rule],
    cidrs: Option<&'a [String]>,
    port: u16,
) -> (Vec<&'a String>, Vec<&'a Rule>) {
    let there = |cidr: &String| rules.iter().any(|rule| rule.is_for(port) && rule.cidr == *cidr);
    let fresh = cidrs.unwrap_or_default().iter().filter(|cidr| !there(cidr)).collect();
    let is_stale = |rule: &&Rule| match cidrs {
        Some(cidrs) if rule.is_for(port) => !cidrs.contains(&rule.cidr),
        _ => rule.description.as_deref() == Some(OURS),
    };
    (fresh, rules.iter().filter(is_stale).collect())
}

/// A network that is named twice is one: EC2 refuses the same rule twice in a request.
fn permission(cidrs: &[&String], port: u16) -> IpPermission {
    let cidrs: BTreeSet<&String> = cidrs.iter().copied().collect();
    let mut permission =
        IpPermission::builder().ip_protocol("tcp").from_port(port.into()).to_port(port.into());
    for cidr in cidrs {
        permission = if cidr.contains(':') {
            permission.ipv6_ranges(Ipv6Range::builder().cidr_ipv6(cidr).description(OURS).build())
        } else {
            permission.ip_ranges(IpRange::builder().cidr_ip(cidr).description(OURS).build())
        };
    }
    permission.build()
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
pub(super) async fn groups(region: &Region, launch: &str) -> Result<Vec<String>, AwsError> {
    let found = described(region, &format!("tag:{}", tags::VM), launch).await?;
    Ok(found.iter().filter_map(|group| group.group_id().map(str::to_owned)).collect())
}

async fn described(region: &Region, by: &str, value: &str) -> Result<Vec<SecurityGroup>, AwsError> {
    let found = region.ec2.describe_security_groups().filters(filter(by, [value])).send().await;
    let found = found.map_err(|error| AwsError::of("DescribeSecurityGroups", error))?;
    Ok(found.security_groups.unwrap_or_default())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn told(before: &[IpPermission], cidrs: Option<&[&str]>, port: u16) -> (Vec<String>, Vec<String>) {
        let cidrs: Option<Vec<String>> =
            cidrs.map(|cidrs| cidrs.iter().map(|cidr| (*cidr).to_owned()).collect());
        let rules: Vec<Rule> = before.iter().flat_map(rules).collect();
        let (fresh, stale) = difference(&rules, cidrs.as_deref(), port);
        let text = |rule: &Rule| format!("{} {:?}", rule.cidr, rule.permission.from_port().unwrap_or(-1));
        (fresh.into_iter().cloned().collect(), stale.into_iter().map(text).collect())
    }

    #[test]
    fn a_network_is_let_in_once() {
        let (four, six) = ("203.0.113.7/32".to_owned(), "2001:db8::/32".to_owned());
        let made = permission(&[&four, &six, &four, &six], 22);
        assert_eq!((made.ip_ranges().len(), made.ipv6_ranges().len()), (1, 1), "{made:?}");
    }

    #[test]
    fn only_rules_of_ssh_are_changed() {
        let (four, six) = ("203.0.113.7/32".to_owned(), "2001:db8::/32".to_owned());
        let of_others = IpPermission::builder()
            .ip_protocol("tcp")
            .from_port(443)
            .to_port(443)
            .ip_ranges(IpRange::builder().cidr_ip("0.0.0.0/0").build())
            .build();
        let everything = IpPermission::builder()
            .ip_protocol("-1")
            .ip_ranges(IpRange::builder().cidr_ip(&four).build())
            .build();
        let before = [permission(&[&four, &six], 22), of_others, everything];
        let none = Vec::<String>::new;
        assert_eq!(told(&before, Some(&[&four, &six]), 22), (none(), none()));
        assert_eq!(
            told(&before, Some(&[&six, "0.0.0.0/0"]), 22),
            (vec!["0.0.0.0/0".into()], vec![format!("{four} 22")])
        );
        // The port moves, and our rules with it.
        let moved = told(&before, Some(&[&four]), 2222);
        assert_eq!(moved, (vec![four.clone()], vec![format!("{four} 22"), format!("{six} 22")]));
        assert_eq!(told(&[], Some(&[&four]), 22), (vec![four.clone()], none()));
        // What somebody else let in is theirs as long as nobody says who may.
        let ssh = IpPermission::builder().ip_protocol("tcp").from_port(22).to_port(22);
        let theirs = ssh.ip_ranges(IpRange::builder().cidr_ip("198.51.100.7/32").build()).build();
        let before = [permission(&[&four], 22), theirs];
        assert_eq!(told(&before, None, 22), (none(), vec![format!("{four} 22")]));
        let both = vec![format!("{four} 22"), "198.51.100.7/32 22".to_owned()];
        assert_eq!(told(&before, Some(&[]), 22), (none(), both));
    }
}
