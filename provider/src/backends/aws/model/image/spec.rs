//! From the configuration to what the builder needs to know.

use std::path::PathBuf;

use tfplugin::Attr;

use super::{AwsImageModel, FIRST_USER, INSTANCE_TYPE, VOLUME_SIZE_GB, VOLUME_TYPE};
use crate::backends::aws::image::{AwsImageSpec, Bastion, Builder, Interface, Login, Source, Volume};
use crate::domain::Arch;

/// Canonical's account, which publishes Ubuntu.
const CANONICAL: &str = "099720109477";

impl AwsImageModel {
    /// What the builder needs to know. All values are known; `region` is where the image is, or is to be, when the
    /// configuration does not say.
    pub fn spec(&self, region: &str) -> AwsImageSpec {
        let arch = Arch::of_name(self.arch.known_deref());
        AwsImageSpec {
            region: self.region.known_deref().unwrap_or(region).to_owned(),
            arch,
            source: self.source(arch),
            volume: Volume {
                size_gb: self.volume_size_gb.unwrap_or(VOLUME_SIZE_GB),
                volume_type: self.volume_type.known_deref().unwrap_or(VOLUME_TYPE).to_owned(),
                iops: self.iops.known().copied(),
                throughput: self.throughput.known().copied(),
                encrypted: self.encrypt_boot.unwrap_or(true),
                kms_key_id: self.kms_key_id.clone().into_known(),
            },
            imdsv2_required: self.imdsv2.known_deref() != Some("optional"),
            verify_boot: self.verify_boot.unwrap_or(false),
            for_everybody: self.share.known().is_some_and(|share| share.public == Attr::Known(true)),
            builder: Builder {
                instance_type: self.instance_type.known_deref().unwrap_or(INSTANCE_TYPE).to_owned(),
                vpc_id: self.vpc_id.clone().into_known(),
                subnet_id: self.subnet_id.clone().into_known(),
                security_group_ids: self.security_group_ids.clone().unwrap_or_default(),
                allowed_cidrs: self.allowed_cidrs.clone().unwrap_or_default(),
                iam_instance_profile: self.iam_instance_profile.clone().into_known(),
                associate_public_address: self.associate_public_address.known().copied(),
                spot: self.spot.unwrap_or(false),
                login: self.login(),
            },
        }
    }

    fn source(&self, arch: Arch) -> Source {
        if let Some(id) = self.source_image.known() {
            return Source::Id(id.clone());
        }
        if let Some(filter) = self.source_filter.known() {
            let owners = filter.owners.clone().unwrap_or_default();
            return Source::Newest { name: filter.name.clone().unwrap_or_default(), owners };
        }
        let arch = match arch {
            Arch::X86_64 => "amd64",
            Arch::Arm64 => "arm64",
        };
        Source::Newest {
            name: format!("ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-{arch}-server-*"),
            owners: vec![CANONICAL.to_owned()],
        }
    }

    fn login(&self) -> Login {
        let username = self.ssh_username.known_deref().unwrap_or(FIRST_USER).to_owned();
        let path = |path: &Attr<String>| path.known().map(PathBuf::from);
        Login {
            interface: match self.ssh_interface.known_deref() {
                Some("private") => Interface::Private,
                Some("session_manager") => Interface::SessionManager,
                _ => Interface::Public,
            },
            host: self.ssh_host.clone().into_known(),
            port: self.ssh_port.known().copied(),
            keypair_name: self.ssh_keypair_name.clone().into_known(),
            private_key_path: path(&self.ssh_private_key_path),
            bastion: self.ssh_bastion_host.known().map(|host| Bastion {
                host: host.clone(),
                port: self.ssh_bastion_port.known().copied(),
                username: self.ssh_bastion_username.clone().into_known().unwrap_or_else(|| username.clone()),
                private_key_path: path(&self.ssh_bastion_private_key_path),
            }),
            username,
        }
    }
}

#[cfg(test)]
mod tests {
    use tfplugin::Model;

    use super::super::CONTENT;
    use super::*;
    use crate::backends::section::with_defaults;

    /// A data source gets no defaults: the key that it shows is that of the image all the same.
    #[test]
    fn what_is_not_said_is_the_schemas_default() {
        let defaults: AwsImageModel = with_defaults();
        assert_eq!(defaults.spec("us-west-2"), AwsImageModel::default().spec("us-west-2"));
    }

    /// What is not in this list is free to change, unknown, or set on one machine only, without a build.
    #[test]
    fn the_key_is_made_of_the_content() {
        for attribute in AwsImageModel::attributes() {
            let content = CONTENT.contains(&attribute.name);
            let place = ["ami_regions", "share", "deprecate_after"].contains(&attribute.name);
            assert!(!(content && place), "{}", attribute.name);
        }
        let model =
            AwsImageModel { instance_type: "m5.large".into(), ssh_port: 2222.into(), ..Default::default() };
        let key = |model: &AwsImageModel| model.spec("us-west-2").key_inputs();
        assert_eq!(key(&model), key(&AwsImageModel::default()));
        for other in [
            AwsImageModel { region: "eu-west-1".into(), ..Default::default() },
            AwsImageModel { arch: "arm64".into(), ..Default::default() },
            AwsImageModel { source_image: "ami-1".into(), ..Default::default() },
            AwsImageModel { volume_size_gb: 81.into(), ..Default::default() },
            AwsImageModel { encrypt_boot: false.into(), ..Default::default() },
            AwsImageModel { verify_boot: true.into(), ..Default::default() },
        ] {
            assert_ne!(key(&other), key(&AwsImageModel::default()), "{other:?}");
        }
    }
}
