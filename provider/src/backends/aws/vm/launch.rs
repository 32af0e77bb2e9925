//! The request that launches an instance, as a value, and what becomes of it.

use std::collections::BTreeMap;

use aws_sdk_ec2::operation::run_instances::builders::RunInstancesInputBuilder;
use aws_sdk_ec2::types::builders::EbsBlockDeviceBuilder;
use aws_sdk_ec2::types::{
    BlockDeviceMapping, EbsBlockDevice, Filter, HttpTokensState, IamInstanceProfileSpecification, Image,
    Instance, InstanceMarketOptionsRequest, InstanceMetadataEndpointState, InstanceMetadataOptionsRequest,
    InstanceNetworkInterfaceSpecification, InstanceType, MarketType, ResourceType, VolumeType,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio_util::sync::CancellationToken;

use super::{AwsVmSpec, VmError, spec::RootVolume, surroundings};
use crate::backends::aws::region::{self, Region, is_gone};
use crate::backends::aws::waiting::{WaitError, once_known};
use crate::backends::aws::{AwsError, tags};
use crate::process::Secret;

/// All that a launch depends on.
pub(in crate::backends::aws) struct Launch<'a> {
    pub(in crate::backends::aws) spec: &'a AwsVmSpec,
    pub(in crate::backends::aws) image: &'a Image,
    pub(in crate::backends::aws) token: &'a str,
    pub(in crate::backends::aws) key_name: &'a str,
    pub(in crate::backends::aws) groups: &'a [String],
    pub(in crate::backends::aws) user_data: Option<&'a Secret>,
    pub(in crate::backends::aws) tags: &'a BTreeMap<String, String>,
}

impl Launch<'_> {
    /// Launches the instance, as [`attempt`](Self::attempt) does.
    ///
    /// # Errors
    /// What AWS refuses, on the attribute that it is about.
    pub(super) async fn run(
        &self,
        region: &Region,
        by: Filter,
        is_early: impl Fn(&AwsError) -> bool,
        cancel: &CancellationToken,
    ) -> Result<Instance, VmError> {
        let launched = self.attempt(region, by, is_early, cancel).await;
        launched.map_err(|error| self.told(region, error))
    }

    /// Launches the instance. As long as `is_early` says so of a refusal, it is tried again. When the reply is lost for good,
    /// the instance is looked for among those that `by` finds.
    ///
    /// # Errors
    /// What AWS refuses, in its own words.
    pub(in crate::backends::aws) async fn attempt(
        &self,
        region: &Region,
        by: Filter,
        is_early: impl Fn(&AwsError) -> bool,
        cancel: &CancellationToken,
    ) -> Result<Instance, VmError> {
        const OPERATION: &str = "RunInstances";
        let ask = || async {
            let launched = self.request().send_with(&region.ec2).await;
            launched.map_err(|error| AwsError::of(OPERATION, error))
        };
        match once_known(cancel, is_early, ask).await {
            Ok(reservation) => {
                let instance = reservation.instances.unwrap_or_default().into_iter().next();
                instance.ok_or(AwsError::Incomplete { operation: OPERATION, what: "instance" }.into())
            }
            Err(WaitError::Aws(error)) if error.is_ambiguous() => {
                let found = region::instances(&region.ec2, by).await.unwrap_or_default();
                let is_ours = |it: &Instance| !is_gone(it) && it.image_id() == self.image.image_id();
                found.into_iter().find(is_ours).ok_or(VmError::Aws(error))
            }
            Err(other) => Err(other.into()),
        }
    }

    /// What AWS refuses, on the attribute that it is about.
    pub(in crate::backends::aws) fn told(&self, region: &Region, error: VmError) -> VmError {
        let image = self.image.image_id().unwrap_or_default();
        match error {
            VmError::Aws(error) => VmError::launching(error, image, &region.name),
            other => other,
        }
    }

    /// The request. Sent again with the same token it has no further effect.
    pub(super) fn request(&self) -> RunInstancesInputBuilder {
        let spec = self.spec;
        let user_data = self.user_data.map(|text| STANDARD.encode(text.expose()));
        let profile = spec.iam_instance_profile.as_deref().map(profile);
        let spot = InstanceMarketOptionsRequest::builder().market_type(MarketType::Spot).build();
        let request = RunInstancesInputBuilder::default()
            .client_token(self.token)
            .image_id(self.image.image_id().unwrap_or_default())
            .instance_type(InstanceType::from(spec.instance_type.as_str()))
            .min_count(1)
            .max_count(1)
            .key_name(self.key_name)
            .metadata_options(metadata(spec.imdsv2_required))
            .set_instance_market_options(spec.spot.then_some(spot))
            .set_iam_instance_profile(profile)
            .set_user_data(user_data)
            .set_block_device_mappings(Some(volumes(self.image, &spec.root_volume)))
            .tag_specifications(tags::specification(ResourceType::Instance, self.tags))
            .tag_specifications(tags::specification(ResourceType::Volume, self.tags));
        self.network(request)
    }

    /// EC2 takes the wish for a public address only with a whole network interface.
    fn network(&self, request: RunInstancesInputBuilder) -> RunInstancesInputBuilder {
        let groups = (!self.groups.is_empty()).then(|| self.groups.to_vec());
        match self.spec.associate_public_address {
            None => request.set_subnet_id(self.spec.subnet_id.clone()).set_security_group_ids(groups),
            Some(public) => request.network_interfaces(
                InstanceNetworkInterfaceSpecification::builder()
                    .device_index(0)
                    .associate_public_ip_address(public)
                    .delete_on_termination(true)
                    .set_subnet_id(self.spec.subnet_id.clone())
                    .set_groups(groups)
                    .build(),
            ),
        }
    }
}

/// Whether what a launch needs, and was made or seen a moment ago, has not got around yet: the image, the key pair, the group
/// when it is `own`, an instance profile that IAM has just told EC2 of.
pub(in crate::backends::aws) fn is_early(error: &AwsError, own_group: bool) -> bool {
    let AwsError::Refused { code, message, .. } = error else { return false };
    match code.as_str() {
        "InvalidAMIID.NotFound" | "InvalidAMIID.Unavailable" | "InvalidKeyPair.NotFound" => true,
        surroundings::UNKNOWN_GROUP => own_group,
        "InvalidParameterValue" => message.to_ascii_lowercase().contains("invalid iam instance profile"),
        _ => false,
    }
}

fn metadata(imdsv2_required: bool) -> InstanceMetadataOptionsRequest {
    let tokens = if imdsv2_required { HttpTokensState::Required } else { HttpTokensState::Optional };
    let options =
        InstanceMetadataOptionsRequest::builder().http_endpoint(InstanceMetadataEndpointState::Enabled);
    // One hop more than to the instance itself, for containers in it.
    options.http_tokens(tokens).http_put_response_hop_limit(2).build()
}

/// The name or ARN of an instance profile.
pub(super) fn profile(name: &str) -> IamInstanceProfileSpecification {
    let builder = IamInstanceProfileSpecification::builder();
    if name.starts_with("arn:") { builder.arn(name).build() } else { builder.name(name).build() }
}

/// The image's volumes, the first as asked for, and all of them to go with the instance.
fn volumes(image: &Image, root: &RootVolume) -> Vec<BlockDeviceMapping> {
    let root_device = image.root_device_name();
    let of_image = image.block_device_mappings().iter().filter(|mapping| mapping.ebs().is_some());
    let volume = |mapping: &BlockDeviceMapping| {
        let own = mapping.ebs()?;
        let is_root = root_device.is_none() || mapping.device_name() == root_device;
        let mut ebs = like(own).delete_on_termination(true);
        if is_root {
            ebs = customised(ebs, root);
        }
        let builder = BlockDeviceMapping::builder().set_device_name(mapping.device_name().map(str::to_owned));
        Some(builder.ebs(ebs.build()).build())
    };
    of_image.filter_map(volume).collect()
}

/// A volume of the same size, kind and speed. EC2 knows no speed of its own for `io1` and `io2`, and refuses one for kinds
/// that have none to choose, though `DescribeImages` may tell one for these, too
/// (<https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_EbsBlockDevice.html>).
pub(in crate::backends::aws) fn like(own: &EbsBlockDevice) -> EbsBlockDeviceBuilder {
    let kind = own.volume_type();
    let has_throughput = kind == Some(&VolumeType::Gp3);
    let has_iops = has_throughput || matches!(kind, Some(VolumeType::Io1 | VolumeType::Io2));
    EbsBlockDevice::builder()
        .set_volume_size(own.volume_size())
        .set_volume_type(kind.cloned())
        .set_iops(own.iops().filter(|_| has_iops))
        .set_throughput(own.throughput().filter(|_| has_throughput))
}

/// What is not asked for stays as it is. A volume of another kind does not have the image's speed.
fn customised(mut ebs: EbsBlockDeviceBuilder, root: &RootVolume) -> EbsBlockDeviceBuilder {
    let number = |value: Option<u32>| value.and_then(|value| i32::try_from(value).ok());
    if let Some(size) = number(root.size_gb) {
        ebs = ebs.volume_size(size);
    }
    let kind = root.volume_type.as_deref().map(VolumeType::from);
    if kind.is_some() && kind != *ebs.get_volume_type() {
        ebs = ebs.set_volume_type(kind).set_iops(None).set_throughput(None);
    }
    if let Some(iops) = number(root.iops) {
        ebs = ebs.iops(iops);
    }
    if let Some(throughput) = number(root.throughput) {
        ebs = ebs.throughput(throughput);
    }
    ebs.set_encrypted(root.encrypted).set_kms_key_id(root.kms_key_id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::aws::tests::told;

    fn spec() -> AwsVmSpec {
        AwsVmSpec {
            region: None,
            instance_type: "t3.large".into(),
            subnet_id: Some("subnet-1".into()),
            security_group_ids: Vec::new(),
            allowed_cidrs: None,
            associate_public_address: None,
            spot: false,
            root_volume: RootVolume::default(),
            iam_instance_profile: None,
            imdsv2_required: true,
        }
    }

    fn image() -> Image {
        let volume = |device: &str, size| {
            let ebs = EbsBlockDevice::builder().volume_size(size).delete_on_termination(false).build();
            BlockDeviceMapping::builder().device_name(device).ebs(ebs).build()
        };
        let ephemeral =
            BlockDeviceMapping::builder().device_name("/dev/sdc").virtual_name("ephemeral0").build();
        Image::builder()
            .image_id("ami-1")
            .root_device_name("/dev/sda1")
            .block_device_mappings(volume("/dev/sdb", 100))
            .block_device_mappings(volume("/dev/sda1", 8))
            .block_device_mappings(ephemeral)
            .build()
    }

    fn request(spec: &AwsVmSpec, user_data: Option<&Secret>) -> RunInstancesInputBuilder {
        let groups = ["sg-1".to_owned()];
        let tags = BTreeMap::from([("Name".to_owned(), "dev".to_owned())]);
        Launch { spec, image: &image(), token: "t", key_name: "k", groups: &groups, user_data, tags: &tags }
            .request()
    }

    #[test]
    fn requests_for_launches() {
        let secret = Secret::new("#!/bin/sh\necho canary");
        let least = request(&spec(), None).build().unwrap();
        insta::assert_snapshot!("least", told(&least));
        let spec = AwsVmSpec {
            region: Some("eu-west-1".into()),
            associate_public_address: Some(false),
            spot: true,
            root_volume: RootVolume {
                size_gb: Some(30),
                volume_type: Some("gp3".into()),
                iops: Some(4000),
                throughput: Some(250),
                encrypted: Some(true),
                kms_key_id: Some("alias/disks".into()),
            },
            iam_instance_profile: Some("web".into()),
            imdsv2_required: false,
            ..spec()
        };
        let most = told(&request(&spec, Some(&secret)).build().unwrap());
        assert!(most.contains("user_data: \"*** Sensitive Data Redacted ***\""), "{most}");
        insta::assert_snapshot!("most", most);
    }

    #[test]
    fn what_costs_money_goes_with_the_instance() {
        let root_volume = RootVolume {
            size_gb: Some(30),
            volume_type: Some("gp3".into()),
            encrypted: Some(true),
            ..RootVolume::default()
        };
        let made = request(&AwsVmSpec { root_volume, ..spec() }, None).build().unwrap();
        let volumes: Vec<_> = made
            .block_device_mappings()
            .iter()
            .map(|one| (one.device_name().unwrap(), one.ebs().unwrap()))
            .map(|(device, ebs)| (device, ebs.volume_size(), ebs.encrypted(), ebs.delete_on_termination()))
            .collect();
        let expected =
            [("/dev/sdb", Some(100), None, Some(true)), ("/dev/sda1", Some(30), Some(true), Some(true))];
        assert_eq!(volumes, expected);
        let kinds: Vec<_> = made.tag_specifications().iter().filter_map(|one| one.resource_type()).collect();
        assert_eq!(kinds, [&ResourceType::Instance, &ResourceType::Volume]);
        assert_eq!(made.client_token(), Some("t"));
    }

    #[test]
    fn a_volume_is_as_fast_as_the_image_s_where_that_can_be_said() {
        let kind = |name: &str| RootVolume { volume_type: Some(name.into()), ..RootVolume::default() };
        let fast = |iops, throughput| RootVolume { iops, throughput, ..RootVolume::default() };
        for (own, iops, throughput, root, expected) in [
            ("io1", Some(2000), None, RootVolume::default(), ("io1", Some(2000), None)),
            ("io2", Some(2000), None, RootVolume::default(), ("io2", Some(2000), None)),
            ("gp3", Some(4000), Some(250), RootVolume::default(), ("gp3", Some(4000), Some(250))),
            ("gp3", None, None, RootVolume::default(), ("gp3", None, None)),
            // EC2 tells what such a volume has, and refuses to be told.
            ("gp2", Some(100), None, RootVolume::default(), ("gp2", None, None)),
            ("standard", Some(100), Some(1), RootVolume::default(), ("standard", None, None)),
            ("io2", Some(2000), None, kind("gp3"), ("gp3", None, None)),
            ("gp3", Some(4000), Some(250), kind("gp3"), ("gp3", Some(4000), Some(250))),
            ("gp3", Some(4000), Some(250), fast(Some(5000), None), ("gp3", Some(5000), Some(250))),
            ("gp3", Some(4000), None, fast(None, Some(300)), ("gp3", Some(4000), Some(300))),
            ("gp2", None, None, RootVolume { iops: Some(900), ..kind("io1") }, ("io1", Some(900), None)),
        ] {
            let ebs = EbsBlockDevice::builder().volume_type(own.into()).set_iops(iops);
            let ebs = ebs.set_throughput(throughput).build();
            let mapping = BlockDeviceMapping::builder().device_name("/dev/sda1").ebs(ebs).build();
            let image = Image::builder().block_device_mappings(mapping).build();
            let made = volumes(&image, &root);
            let ebs = made[0].ebs().unwrap();
            let told = (ebs.volume_type().unwrap().as_str(), ebs.iops(), ebs.throughput());
            assert_eq!(told, expected, "{own} with {root:?}");
        }
    }

    #[test]
    fn the_network_is_said_in_one_place() {
        let plain = request(&spec(), None).build().unwrap();
        assert_eq!(
            (plain.subnet_id(), plain.security_group_ids()),
            (Some("subnet-1"), &["sg-1".to_owned()][..])
        );
        assert!(plain.network_interfaces().is_empty());
        let public = AwsVmSpec { associate_public_address: Some(true), ..spec() };
        let public = request(&public, None).build().unwrap();
        assert_eq!((public.subnet_id(), public.security_group_ids().len()), (None, 0));
        let interface = &public.network_interfaces()[0];
        assert_eq!((interface.subnet_id(), interface.groups()), (Some("subnet-1"), &["sg-1".to_owned()][..]));
        assert_eq!(interface.associate_public_ip_address(), Some(true));
    }

    #[test]
    fn metadata_spot_profile_and_user_data() {
        let made = request(&spec(), Some(&Secret::new("#!/bin/sh"))).build().unwrap();
        assert_eq!(made.metadata_options().unwrap().http_tokens(), Some(&HttpTokensState::Required));
        assert_eq!(made.user_data(), Some("IyEvYmluL3No"));
        assert!(made.instance_market_options().is_none());
        let other = AwsVmSpec {
            spot: true,
            imdsv2_required: false,
            iam_instance_profile: Some("arn:aws:iam::1:instance-profile/x".into()),
            ..spec()
        };
        let made = request(&other, None).build().unwrap();
        assert_eq!(made.instance_market_options().unwrap().market_type(), Some(&MarketType::Spot));
        assert_eq!(made.metadata_options().unwrap().http_tokens(), Some(&HttpTokensState::Optional));
        let profile = made.iam_instance_profile().unwrap();
        assert_eq!((profile.name(), profile.arn()), (None, Some("arn:aws:iam::1:instance-profile/x")));
    }
}
