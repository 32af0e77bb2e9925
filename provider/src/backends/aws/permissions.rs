//! Which permissions are missing, by dry runs: EC2 says whether it would have done what is asked, and does nothing. What is
//! named in them is made up. Of a permission that depends on a thing's tags no dry run can tell.

use aws_sdk_ec2::Client;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::primitives::{Blob, DateTime};
use aws_sdk_ec2::types::{AttributeValue, HttpTokensState, ImageAttributeName, IpPermission, Tag};
use futures::future::{BoxFuture, join_all};

use super::AwsError;
use crate::domain::causes;
use crate::domain::prerequisite::{Prerequisite, State};

/// How many are asked for at a time.
const AT_ONCE: usize = 8;

/// Things that are not there.
const INSTANCE: &str = "i-00000000000000000";
const IMAGE: &str = "ami-00000000000000000";
const GROUP: &str = "sg-00000000000000000";
const SNAPSHOT: &str = "snap-00000000000000000";
const VOLUME: &str = "vol-00000000000000000";
const NAME: &str = "sindri-dry-run";
/// A public key that nobody has the private half of.
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBW6/cPbCjY6KkJkP23ZJqQ0eZ3RhacaR9NoDI4jEQl1";

/// What is tried, each by a request of its own.
type Tried<'a> = Vec<BoxFuture<'a, Prerequisite>>;

/// Tries them all; what is only read is required.
pub(super) async fn tried(ec2: &Client) -> Vec<Prerequisite> {
    let mut all = looking(ec2);
    all.extend(machines(ec2));
    all.extend(images(ec2));
    all.extend(builds(ec2));
    let mut found = Vec::new();
    while !all.is_empty() {
        let some: Vec<_> = all.drain(..AT_ONCE.min(all.len())).collect();
        found.extend(join_all(some).await);
    }
    found
}

/// Requests with the permissions that they need.
macro_rules! tries {
    ($required:literal, $($operation:literal: $asked:expr),* $(,)?) => {
        vec![$(Box::pin(async move {
            let tried = $asked.dry_run(true).send().await;
            permission(concat!("ec2:", $operation), problem($operation, tried), $required)
        })),*]
    };
}

fn looking(ec2: &Client) -> Tried<'_> {
    tries!(true,
        "DescribeImageAttribute": ec2.describe_image_attribute().image_id(IMAGE).attribute(ImageAttributeName::LaunchPermission),
        "DescribeImages": ec2.describe_images().owners("self"),
        "DescribeInstances": ec2.describe_instances(),
        "DescribeKeyPairs": ec2.describe_key_pairs(),
        "DescribeSecurityGroups": ec2.describe_security_groups(),
        "DescribeSnapshots": ec2.describe_snapshots().owner_ids("self"),
        "DescribeSubnets": ec2.describe_subnets(),
    )
}

fn machines(ec2: &Client) -> Tried<'_> {
    let rule = || IpPermission::builder().ip_protocol("tcp").from_port(22).to_port(22).build();
    tries!(false,
        "AuthorizeSecurityGroupIngress": ec2.authorize_security_group_ingress().group_id(GROUP).ip_permissions(rule()),
        "CreateSecurityGroup": ec2.create_security_group().group_name(NAME).description(NAME),
        "CreateTags": ec2.create_tags().resources(INSTANCE).tags(tag()),
        "DeleteKeyPair": ec2.delete_key_pair().key_name(NAME),
        "DeleteSecurityGroup": ec2.delete_security_group().group_id(GROUP),
        "DeleteTags": ec2.delete_tags().resources(INSTANCE).tags(tag()),
        "GetConsoleOutput": ec2.get_console_output().instance_id(INSTANCE),
        "ImportKeyPair": ec2.import_key_pair().key_name(NAME).public_key_material(Blob::new(KEY)),
        "ModifyInstanceAttribute": ec2.modify_instance_attribute().instance_id(INSTANCE).instance_type(AttributeValue::builder().value("t3.micro").build()),
        "ModifyInstanceMetadataOptions": ec2.modify_instance_metadata_options().instance_id(INSTANCE).http_tokens(HttpTokensState::Required),
        "RevokeSecurityGroupIngress": ec2.revoke_security_group_ingress().group_id(GROUP).ip_permissions(rule()),
        "RunInstances": ec2.run_instances().image_id(IMAGE).min_count(1).max_count(1),
        "StartInstances": ec2.start_instances().instance_ids(INSTANCE),
        "StopInstances": ec2.stop_instances().instance_ids(INSTANCE),
        "TerminateInstances": ec2.terminate_instances().instance_ids(INSTANCE),
    )
}

fn images(ec2: &Client) -> Tried<'_> {
    let later = DateTime::from_secs(4_000_000_000);
    let description = || AttributeValue::builder().value(NAME).build();
    tries!(false,
        "CopyImage": ec2.copy_image().source_image_id(IMAGE).source_region("us-west-2").name(NAME),
        "DeleteSnapshot": ec2.delete_snapshot().snapshot_id(SNAPSHOT),
        "DeregisterImage": ec2.deregister_image().image_id(IMAGE),
        "DisableImageDeprecation": ec2.disable_image_deprecation().image_id(IMAGE),
        "EnableImageDeprecation": ec2.enable_image_deprecation().image_id(IMAGE).deprecate_at(later),
        "ModifyImageAttribute": ec2.modify_image_attribute().image_id(IMAGE).description(description()),
    )
}

/// What Packer needs for a builder that is no spot machine.
fn builds(ec2: &Client) -> Tried<'_> {
    tries!(false,
        "CreateImage": ec2.create_image().instance_id(INSTANCE).name(NAME),
        "CreateSnapshot": ec2.create_snapshot().volume_id(VOLUME),
        "DeleteVolume": ec2.delete_volume().volume_id(VOLUME),
        "DescribeInstanceStatus": ec2.describe_instance_status(),
        "DescribeInstanceTypeOfferings": ec2.describe_instance_type_offerings(),
        "DescribeRegions": ec2.describe_regions(),
        "DescribeTags": ec2.describe_tags(),
        "DescribeVolumes": ec2.describe_volumes(),
        "DescribeVpcs": ec2.describe_vpcs(),
        "RegisterImage": ec2.register_image().name(NAME),
    )
}

fn tag() -> Tag {
    Tag::builder().key(NAME).value("").build()
}

pub(super) fn permission(name: &str, problem: Option<String>, required: bool) -> Prerequisite {
    Prerequisite {
        name: name.to_owned(),
        version: None,
        state: if problem.is_some() { State::Missing } else { State::Ok },
        hint: problem.unwrap_or_default(),
        required,
    }
}

/// What stands in the way. A dry run that would have worked ends in an error that says so; one that fails because of what
/// is made up was not denied.
fn problem<T, E>(operation: &'static str, tried: Result<T, SdkError<E>>) -> Option<String>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let error = AwsError::of(operation, tried.err()?);
    error.code().is_none().then(|| causes(&error))
}
