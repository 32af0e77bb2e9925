//! Who may reach a machine: the rules of its security group.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::{IpPermission, IpRange, Ipv6Range};
use tokio_util::sync::CancellationToken;

use crate::backends::aws::AwsError;
use crate::backends::aws::region::Region;
use crate::backends::aws::vm::VmError;
use crate::backends::aws::waiting::once_known;

/// What EC2 says of a security group that it does not know, or not yet.
pub(in crate::backends::aws::vm) const UNKNOWN_GROUP: &str = "InvalidGroup.NotFound";

/// The description of the rules that we make, by which they are known when the port changes.
const OURS: &str = "SSH, by Sindri";

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
    Ok(once_known(cancel, is_early, || authorize(region, group, &fresh, port)).await?)
}

/// Lets exactly these networks reach a port. Rules that others made stay for other ports, and for this one when none are named.
pub(in crate::backends::aws::vm) async fn admit(
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

/// One network of a group's rule, which can be revoked by itself.
pub(super) struct Rule {
    pub(super) cidr: String,
    description: Option<String>,
    permission: IpPermission,
}

impl Rule {
    fn is_for(&self, port: u16) -> bool {
        self.port() == Some(port)
    }

    /// The port, when it is for one alone.
    pub(super) fn port(&self) -> Option<u16> {
        let told = &self.permission;
        let is_one = told.ip_protocol() == Some("tcp") && told.from_port() == told.to_port();
        told.from_port().filter(|_| is_one).and_then(|port| port.try_into().ok())
    }
}

/// The networks of a rule, each for itself.
pub(super) fn rules(permission: &IpPermission) -> Vec<Rule> {
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
