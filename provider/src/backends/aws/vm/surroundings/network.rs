//! Where in the account's networks a machine is.

use aws_sdk_ec2::types::{LocationType, Subnet};

use crate::backends::aws::AwsError;
use crate::backends::aws::region::{Region, filter};

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
