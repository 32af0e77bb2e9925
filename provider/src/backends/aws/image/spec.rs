//! What only AWS needs to know of an image.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::domain::Arch;

/// An AMI as asked for. What is in [`AwsImageSpec::key_inputs`] makes another image; the rest is about how it is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsImageSpec {
    /// Where it is built and stays.
    pub region: String,
    /// Whose processors it is for.
    pub arch: Arch,
    /// What it starts from.
    pub source: Source,
    /// Its root volume.
    pub volume: Volume,
    /// Whether machines from it give instance metadata to session tokens only. The builder does, too.
    pub imdsv2_required: bool,
    /// Whether the checks run in a machine from the finished image, rather than in the builder.
    pub verify_boot: bool,
    /// Whether everybody is to have it: nobody's key may be in it then.
    pub for_everybody: bool,
    /// The machine that builds it.
    pub builder: Builder,
}

/// What an image starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// This AMI.
    Id(String),
    /// The newest AMI of these owners with a name like this.
    Newest {
        /// `*` and `?` stand for any characters and for one.
        name: String,
        /// Account ids, `amazon`, `aws-marketplace` or `self`; never none.
        owners: Vec<String>,
    },
}

/// The image's root volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// GiB.
    pub size_gb: u32,
    /// EBS's word: `gp3`.
    pub volume_type: String,
    /// Operations a second.
    pub iops: Option<u32>,
    /// MiB a second.
    pub throughput: Option<u32>,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// The key for that; the account's default one when not set.
    pub kms_key_id: Option<String>,
}

/// The machine that builds an image, and the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Builder {
    /// Its size.
    pub instance_type: String,
    /// The VPC; the default one when not set.
    pub vpc_id: Option<String>,
    /// The subnet; one of the VPC's when not set.
    pub subnet_id: Option<String>,
    /// Security groups of the user's; one is made for the build when there are none.
    pub security_group_ids: Vec<String>,
    /// Networks that the group made for the build lets in; this computer's public address when there are none.
    pub allowed_cidrs: Vec<String>,
    /// The instance profile that gives it a role.
    pub iam_instance_profile: Option<String>,
    /// Whether it gets a public address; the subnet's own setting when not set.
    pub associate_public_address: Option<bool>,
    /// Whether it runs on spare capacity.
    pub spot: bool,
    /// How one logs in.
    pub login: Login,
}

/// How Packer logs into the builder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub username: String,
    /// Which of the builder's addresses.
    pub interface: Interface,
    /// Another address, behind which the builder is.
    pub host: Option<String>,
    /// The port, 22 when not set.
    pub port: Option<u16>,
    /// A key pair of the account's; one is made for the build when not set.
    pub keypair_name: Option<String>,
    /// Its private key. Always there with the name.
    pub private_key_path: Option<PathBuf>,
    /// A machine to go through.
    pub bastion: Option<Bastion>,
}

/// A machine through which the builder is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bastion {
    /// Its address.
    pub host: String,
    /// Its port, 22 when not set.
    pub port: Option<u16>,
    /// The user there.
    pub username: String,
    /// The key for it; the SSH agent's when not set.
    pub private_key_path: Option<PathBuf>,
}

/// Which way leads to the builder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// Its public address.
    Public,
    /// Its private one.
    Private,
    /// AWS Systems Manager.
    SessionManager,
}

impl AwsImageSpec {
    /// What makes another image when it changes.
    pub fn key_inputs(&self) -> Value {
        let source = match &self.source {
            Source::Id(id) => json!({ "id": id }),
            Source::Newest { name, owners } => json!({ "name": name, "owners": owners }),
        };
        json!({
            "aws": {
                "region": self.region,
                "arch": self.arch.name(),
                "source": source,
                "volume": {
                    "size_gb": self.volume.size_gb,
                    "type": self.volume.volume_type,
                    "iops": self.volume.iops,
                    "throughput": self.volume.throughput,
                    "encrypted": self.volume.encrypted,
                    "kms_key_id": self.volume.kms_key_id,
                },
                "imdsv2_required": self.imdsv2_required,
                "verify_boot": self.verify_boot,
            },
        })
    }
}
