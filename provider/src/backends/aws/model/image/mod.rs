//! `aws = { … }` of an image.

mod check;
mod in_place;
mod section;
mod spec;
#[cfg(test)]
mod texts;
mod words;

use std::collections::BTreeSet;

use tfplugin::{Attr, Model};

#[cfg(test)]
pub(in crate::backends::aws) use self::texts::with_text;
use self::words::{accounts, interface, organizations, owners, regions};
use super::words::{cidrs, imdsv2, volume_type, word};
use super::{FIRST_USER, INSTANCE_TYPE};
use crate::backends::aws::settings;
use crate::domain::rules::{arch, port, positive};
use crate::domain::{Arch, names};

/// The root volume's size in GiB when the user does not say.
const VOLUME_SIZE_GB: u32 = 80;
/// Its type then.
const VOLUME_TYPE: &str = "gp3";

/// Builds the image on AWS with Packer, as an AMI.
#[derive(Debug, Clone, Default, PartialEq, Eq, Model)]
pub struct AwsImageModel {
    /// Where it is built and stays; the provider's region when not set.
    #[attr(optional, validate = settings::region)]
    pub region: Attr<String>,
    /// Whose processors it is for: `"x86_64"` or `"arm64"`.
    #[attr(optional, default = Arch::default().name().to_owned(), validate = arch)]
    pub arch: Attr<String>,
    /// The id of the AMI that it starts from. When neither this nor `source_filter` is set, it starts from Canonical's newest
    /// Ubuntu 24.04.
    #[attr(optional, validate = word)]
    pub source_image: Attr<String>,
    /// Which AMI it starts from: the newest that fits.
    #[attr(optional)]
    pub source_filter: Attr<SourceFilterModel>,
    /// The root volume's size in GiB.
    #[attr(optional, default = VOLUME_SIZE_GB, validate = positive)]
    pub volume_size_gb: Attr<u32>,
    /// `"gp3"`, `"gp2"`, `"io1"`, `"io2"` or `"standard"`.
    #[attr(optional, default = VOLUME_TYPE.to_owned(), validate = volume_type)]
    pub volume_type: Attr<String>,
    /// Operations a second, for `gp3`, and for `io1` and `io2`, which need it.
    #[attr(optional, validate = positive)]
    pub iops: Attr<u32>,
    /// MiB a second, for `gp3`.
    #[attr(optional, validate = positive)]
    pub throughput: Attr<u32>,
    /// Whether the image's volumes are encrypted. An encrypted image cannot be public, and only be shared with a key of your
    /// own.
    #[attr(optional, default = true)]
    pub encrypt_boot: Attr<bool>,
    /// The KMS key for that; the account's default one when not set.
    #[attr(optional, validate = word)]
    pub kms_key_id: Attr<String>,
    /// `"required"`: machines from the image give instance metadata to session tokens only (IMDSv2), or `"optional"`.
    #[attr(optional, default = "required", validate = imdsv2)]
    pub imdsv2: Attr<String>,
    /// Whether `verify` runs in a machine that is launched from the finished image and terminated, rather than in the builder
    /// before the image is cleaned and made. When a check fails, the image is deleted, and nobody has seen it. Without checks
    /// the image is known to boot and to let somebody in. Not with a bastion or Session Manager. Part of the content, as the
    /// checks are: changed, it is another image.
    #[attr(optional, default = false)]
    pub verify_boot: Attr<bool>,

    /// The builder's size.
    #[attr(optional, default = INSTANCE_TYPE.to_owned(), validate = word)]
    pub instance_type: Attr<String>,
    /// The builder's VPC; the default one when not set.
    #[attr(optional, validate = word)]
    pub vpc_id: Attr<String>,
    /// The builder's subnet. When not set it is one of the VPC's where `associate_public_address` is set, and EC2's choice of
    /// the default VPC's otherwise.
    #[attr(optional, validate = word)]
    pub subnet_id: Attr<String>,
    /// The builder's security groups. When there are none, one is made for the build, which lets `allowed_cidrs` reach SSH.
    #[attr(optional)]
    pub security_group_ids: Attr<Vec<String>>,
    /// Networks that may reach the builder's SSH, such as `["203.0.113.7/32"]`; this computer's public address, as
    /// checkip.amazonaws.com tells it, when not set.
    #[attr(optional, validate = cidrs)]
    pub allowed_cidrs: Attr<Vec<String>>,
    /// The name of an instance profile, which gives the builder a role. Needed with `"session_manager"`.
    #[attr(optional, validate = word)]
    pub iam_instance_profile: Attr<String>,
    /// Whether the builder gets a public address; the subnet's own setting when not set.
    #[attr(optional)]
    pub associate_public_address: Attr<bool>,
    /// Whether the builder runs on spare capacity: cheaper, and AWS may take it away during the build.
    #[attr(optional, default = false)]
    pub spot: Attr<bool>,
    /// Who logs in: the source image's own first user.
    #[attr(optional, default = FIRST_USER.to_owned(), validate = names::user)]
    pub ssh_username: Attr<String>,
    /// The way to the builder: `"public"`, `"private"` (its private address) or `"session_manager"`.
    #[attr(optional, default = "public", validate = interface)]
    pub ssh_interface: Attr<String>,
    /// Where the builder's SSH is reached when that is not its own address: a forward, a NAT.
    #[attr(optional, validate = word)]
    pub ssh_host: Attr<String>,
    /// The port on which SSH is reached, 22 when not set.
    #[attr(optional, validate = port)]
    pub ssh_port: Attr<u16>,
    /// A key pair of the account's, where none may be made. A fresh one is made for the build when not set.
    #[attr(optional, validate = word)]
    pub ssh_keypair_name: Attr<String>,
    /// The path of that pair's private key.
    #[attr(optional, validate = names::text)]
    pub ssh_private_key_path: Attr<String>,
    /// A machine through which the builder is reached.
    #[attr(optional, validate = word)]
    pub ssh_bastion_host: Attr<String>,
    /// The port of SSH there, 22 when not set.
    #[attr(optional, validate = port)]
    pub ssh_bastion_port: Attr<u16>,
    /// The user there; `ssh_username` when not set.
    #[attr(optional, validate = names::user)]
    pub ssh_bastion_username: Attr<String>,
    /// The path of the private key for it; the SSH agent's keys when not set.
    #[attr(optional, validate = names::text)]
    pub ssh_bastion_private_key_path: Attr<String>,

    /// Regions that get a copy. Changes in place.
    #[attr(optional, validate = regions)]
    pub ami_regions: Attr<BTreeSet<String>>,
    /// Who else may launch machines from the image. Changes in place; when not set, sharing is not managed.
    #[attr(optional)]
    pub share: Attr<ShareModel>,
    /// How long after it was finished the image counts as deprecated, such as `"2160h"`: others no longer see it, and launches
    /// still work. Changes in place.
    #[attr(optional, validate = tfplugin::is_duration)]
    pub deprecate_after: Attr<String>,
}

/// Which AMI an image starts from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Model)]
pub struct SourceFilterModel {
    /// Its name; `*` and `?` stand for any characters and for one.
    #[attr(required, validate = names::text)]
    pub name: Attr<String>,
    /// Whose it is: account ids, `"amazon"`, `"aws-marketplace"` or `"self"`. Anybody can give an AMI any name, so an owner is
    /// always needed.
    #[attr(required, validate = owners)]
    pub owners: Attr<Vec<String>>,
}

/// Who may launch machines from an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Model)]
pub struct ShareModel {
    /// Accounts, 12 digits each.
    #[attr(optional, validate = accounts)]
    pub account_ids: Attr<BTreeSet<String>>,
    /// Organisations and organisational units, by their ARNs.
    #[attr(optional, validate = organizations)]
    pub organization_arns: Attr<BTreeSet<String>>,
    /// Whether everybody may. With `verify_boot`, an image that is there already is looked through first, in a machine that is
    /// launched from it and terminated, unless that was done before.
    #[attr(optional, default = false)]
    pub public: Attr<bool>,
}

/// What in `aws` describes the image's content: [`AwsImageSpec::key_inputs`] is made of it.
pub const CONTENT: &[&str] = &[
    "region",
    "arch",
    "source_image",
    "source_filter",
    "volume_size_gb",
    "volume_type",
    "iops",
    "throughput",
    "encrypt_boot",
    "kms_key_id",
    "imdsv2",
    "verify_boot",
];
