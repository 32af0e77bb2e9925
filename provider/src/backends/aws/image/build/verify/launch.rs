//! The machine that a finished image is checked in: like its builder, and let in by the same key and group.

use std::time::{Duration, Instant};

use aws_sdk_ec2::types::{Image as Ami, Instance};

use super::super::access::Access;
use super::super::{BuildError, Work};
use crate::backends::aws::image::Builder;
use crate::backends::aws::region::{Region, filter, tag_filter};
use crate::backends::aws::vm::launch::{Launch, is_early};
use crate::backends::aws::vm::{AwsVmSpec, RootVolume, VmError, surroundings};
use crate::backends::aws::{AwsError, tags};

/// How long a launch waits for capacity, which AWS says to come in minutes
/// (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshooting-launch.html>), and the pause between two tries.
const CAPACITY: Duration = Duration::from_secs(5 * 60);
/// See [`CAPACITY`].
const CAPACITY_LOOK: Duration = Duration::from_secs(10);

/// Launches it. Never on spare capacity: an image that is good is not to fail because a machine was taken away.
pub(super) async fn launch(work: &Work<'_>, access: &Access, ami: &Ami) -> Result<Instance, BuildError> {
    let image = ami.image_id().unwrap_or_default();
    let failed = |error: VmError| unlaunched(image, error);
    let spec = spec(work).await.map_err(|error| failed(error.into()))?;
    let token = work.id.to_string();
    let launch = Launch {
        spec: &spec,
        image: ami,
        token: &token,
        key_name: &access.key_name,
        groups: &access.groups,
        user_data: None,
        tags: &work.tags,
    };
    let by = tag_filter(tags::BUILD, [&token]);
    let own_group = work.spec.builder.security_group_ids.is_empty();
    let is_early = |error: &AwsError| is_early(error, own_group);
    let launched = while_short(CAPACITY, CAPACITY_LOOK, || {
        launch.attempt(work.region, by.clone(), is_early, work.cancel)
    });
    launched.await.map_err(|error| failed(launch.told(work.region, error)))
}

/// The machine is the builder's like.
async fn spec(work: &Work<'_>) -> Result<AwsVmSpec, AwsError> {
    let builder = &work.spec.builder;
    let vpc = match &builder.vpc_id {
        _ if !looks_for_a_subnet(builder) => None,
        Some(vpc) => Some(vpc.clone()),
        None => default_vpc(work.region).await?,
    };
    let subnet_id = match vpc {
        Some(vpc) => surroundings::subnet_in(work.region, &vpc, &builder.instance_type).await?,
        None => builder.subnet_id.clone(),
    };
    Ok(AwsVmSpec {
        region: None,
        instance_type: builder.instance_type.clone(),
        subnet_id,
        security_group_ids: Vec::new(),
        allowed_cidrs: None,
        associate_public_address: builder.associate_public_address,
        spot: false,
        root_volume: RootVolume::default(),
        iam_instance_profile: builder.iam_instance_profile.clone(),
        imdsv2_required: work.spec.imdsv2_required,
    })
}

/// Whether a subnet is looked for: only where a public address is asked for or refused, as Packer does for the builder, in the
/// VPC that is named or the default one (`StepNetworkInfo` in packer-plugin-amazon). Otherwise EC2 takes one.
fn looks_for_a_subnet(builder: &Builder) -> bool {
    builder.subnet_id.is_none() && builder.associate_public_address.is_some()
}

/// The account's own VPC in the region, if it has one.
async fn default_vpc(region: &Region) -> Result<Option<String>, AwsError> {
    let asked = region.ec2.describe_vpcs().filters(filter("is-default", ["true"])).send().await;
    let vpcs = asked.map_err(|error| AwsError::of("DescribeVpcs", error))?.vpcs.unwrap_or_default();
    Ok(vpcs.into_iter().find_map(|vpc| vpc.vpc_id))
}

/// As long as AWS has no machine to spare it is asked again.
async fn while_short<T, F: Future<Output = Result<T, VmError>>>(
    limit: Duration,
    pause: Duration,
    launch: impl Fn() -> F,
) -> Result<T, VmError> {
    let since = Instant::now();
    loop {
        match launch().await {
            Err(VmError::Aws(error)) if is_short(&error) && since.elapsed() < limit => {
                tokio::time::sleep(pause).await;
            }
            launched => return launched,
        }
    }
}

fn is_short(error: &AwsError) -> bool {
    error.code() == Some("InsufficientInstanceCapacity")
}

/// What AWS says of the launch, on the image's own attribute.
fn unlaunched(image: &str, source: VmError) -> BuildError {
    let attribute = match &source {
        VmError::Cancelled => return BuildError::Cancelled,
        VmError::Refused { attribute, .. } => of_image(attribute),
        _ => "aws.verify_boot",
    };
    BuildError::Unlaunched { image: image.to_owned(), attribute, source: Box::new(source) }
}

/// The image's attribute for a machine's.
fn of_image(attribute: &'static str) -> &'static str {
    match attribute {
        "aws.instance_type" | "aws.subnet_id" | "aws.security_group_ids" | "aws.iam_instance_profile" => {
            attribute
        }
        "aws.root_volume.kms_key_id" => "aws.kms_key_id",
        _ => "aws.verify_boot",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::super::tests::builder;
    use super::*;
    use crate::domain::causes;

    fn refused(code: &str, message: &str) -> AwsError {
        AwsError::Refused {
            operation: "RunInstances",
            code: code.into(),
            message: message.into(),
            request_id: "r-1".into(),
        }
    }

    #[test]
    fn what_a_launch_is_refused_for_is_told_on_an_attribute_of_the_image() {
        for (code, message, expected) in [
            ("InvalidAMIID.NotFound", "The image id '[ami-1]' does not exist", "aws.verify_boot"),
            ("InsufficientInstanceCapacity", "no", "aws.instance_type"),
            ("Unsupported", "The instance type 't3.x' does not support arm64", "aws.instance_type"),
            ("InvalidSubnetID.NotFound", "x", "aws.subnet_id"),
            ("InvalidGroup.NotFound", "x", "aws.security_group_ids"),
            ("InvalidParameterValue", "Invalid IAM Instance Profile name", "aws.iam_instance_profile"),
            ("InvalidKMSKey.InvalidState", "x", "aws.kms_key_id"),
            ("InvalidBlockDeviceMapping", "x", "aws.verify_boot"),
        ] {
            let error = VmError::launching(refused(code, message), "ami-1", "us-west-2");
            let error = unlaunched("ami-1", error);
            let BuildError::Unlaunched { attribute, .. } = &error else { panic!("{code}") };
            assert_eq!(*attribute, expected, "{code}");
            let words = "no machine can be launched from the finished image ami-1";
            let told = causes(&error);
            assert!(told.starts_with(words) && told.contains("r-1"), "{told}");
        }
    }

    #[test]
    fn whatever_a_launch_fails_for_is_of_the_image() {
        let (action, message, request_id) = ("ec2:DescribeSubnets".into(), String::new(), "r-1".into());
        for error in [
            refused("VcpuLimitExceeded", "no").into(),
            refused("InstanceLimitExceeded", "no").into(),
            AwsError::Throttled { operation: "DescribeSubnets", attempts: 25, request_id: "r-1".into() }
                .into(),
            AwsError::Denied { action, message, request_id }.into(),
            VmError::launching(refused("Unsupported", "instance type"), "ami-1", "us-west-2"),
        ] {
            let error = unlaunched("ami-1", error);
            assert!(error.is_of_the_image(), "{error:?}");
        }
        assert!(matches!(unlaunched("ami-1", VmError::Cancelled), BuildError::Cancelled));
    }

    #[tokio::test]
    async fn a_launch_waits_for_capacity_and_for_nothing_else() {
        let pause = Duration::from_millis(1);
        for (code, limit, expected) in [
            ("InsufficientInstanceCapacity", CAPACITY, 3),
            ("InsufficientInstanceCapacity", Duration::ZERO, 1),
            ("VcpuLimitExceeded", CAPACITY, 1),
        ] {
            let tries = AtomicU32::new(0);
            let launch = || async {
                match tries.fetch_add(1, Ordering::Relaxed) {
                    2 => Ok(()),
                    _ => Err(VmError::from(refused(code, "no"))),
                }
            };
            let launched = while_short(limit, pause, launch).await;
            assert_eq!(
                (tries.load(Ordering::Relaxed), launched.is_ok()),
                (expected, expected == 3),
                "{code}"
            );
        }
    }

    #[test]
    fn a_subnet_is_looked_for_as_packer_does() {
        for (subnet, public, expected) in [
            (None, None, false),
            (None, Some(true), true),
            (None, Some(false), true),
            (Some("subnet-1"), Some(true), false),
        ] {
            let mut builder = builder();
            builder.subnet_id = subnet.map(str::to_owned);
            builder.associate_public_address = public;
            assert_eq!(looks_for_a_subnet(&builder), expected, "{subnet:?} {public:?}");
        }
    }
}
