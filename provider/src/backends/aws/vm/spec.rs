//! What only AWS needs to know of a machine.

/// A machine's shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsVmSpec {
    /// Where; the provider's region when not set.
    pub region: Option<String>,
    /// Its size.
    pub instance_type: String,
    /// The subnet; one of the default VPC's when not set.
    pub subnet_id: Option<String>,
    /// Security groups of the user's.
    pub security_group_ids: Vec<String>,
    /// Networks that may reach SSH, through a security group made for the machine. When not set, what others let in is theirs.
    pub allowed_cidrs: Option<Vec<String>>,
    /// Whether it gets a public address; the subnet's own setting when not set.
    pub associate_public_address: Option<bool>,
    /// Whether it runs on spare capacity and may be taken away.
    pub spot: bool,
    /// Its root volume.
    pub root_volume: RootVolume,
    /// The name or ARN of the instance profile that gives it a role.
    pub iam_instance_profile: Option<String>,
    /// Whether instance metadata are given to session tokens only.
    pub imdsv2_required: bool,
}

/// What differs from the image's own root volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootVolume {
    /// GiB.
    pub size_gb: Option<u32>,
    /// EBS's word: `gp3`.
    pub volume_type: Option<String>,
    /// Whether it is encrypted even if the image is not.
    pub encrypted: Option<bool>,
    /// The key for that; the account's default one when not set.
    pub kms_key_id: Option<String>,
    /// Operations a second.
    pub iops: Option<u32>,
    /// MiB a second.
    pub throughput: Option<u32>,
}

/// Whether a name or an ARN is that of the profile with this ARN.
pub fn names_profile(named: &str, arn: &str) -> bool {
    named == arn || arn.rsplit('/').next() == Some(named)
}
