//! `aws = { … }` of an image.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tfplugin::{Attr, Diagnostics, Model, Path};

use super::words::{cidrs, imdsv2, volume_type, word};
use crate::backends::aws::image::{AwsImageSpec, Bastion, Builder, Interface, Login, Source, Volume};
use crate::backends::aws::settings;
use crate::domain::distribution::{ages_as, deprecation};
use crate::domain::rules::{arch, one_of, positive};
use crate::domain::{Arch, Distribution, Image, Share, names};

/// Canonical's account, which publishes Ubuntu.
const CANONICAL: &str = "099720109477";

/// Builds the image on AWS with Packer, as an AMI. What does not change the image's content, such as the builder's size or
/// the way to it, builds nothing when it changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Model)]
pub struct AwsImageModel {
    /// Where it is built and stays; the provider's region when not set.
    #[attr(optional, validate = settings::region)]
    pub region: Attr<String>,
    /// Whose processors it is for: `"x86_64"` or `"arm64"`.
    #[attr(optional, default = "x86_64", validate = arch)]
    pub arch: Attr<String>,
    /// The id of the AMI that it starts from. When neither this nor `source_filter` is set, it starts from Canonical's newest
    /// Ubuntu 24.04.
    #[attr(optional, validate = word)]
    pub source_image: Attr<String>,
    /// Which AMI it starts from: the newest that fits.
    #[attr(optional)]
    pub source_filter: Attr<SourceFilterModel>,
    /// The root volume's size in GiB.
    #[attr(optional, default = 80, validate = positive)]
    pub volume_size_gb: Attr<u32>,
    /// `"gp3"`, `"gp2"`, `"io1"`, `"io2"`, `"st1"`, `"sc1"` or `"standard"`.
    #[attr(optional, default = "gp3", validate = volume_type)]
    pub volume_type: Attr<String>,
    /// Operations a second, for `gp3`, `io1` and `io2`.
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
    /// before the image is made.
    #[attr(optional, default = false)]
    pub verify_boot: Attr<bool>,

    /// The builder's size.
    #[attr(optional, default = "t3.large", validate = word)]
    pub instance_type: Attr<String>,
    /// The builder's VPC; the default one when not set.
    #[attr(optional, validate = word)]
    pub vpc_id: Attr<String>,
    /// The builder's subnet; one of the VPC's when not set.
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
    #[attr(optional, default = "ubuntu", validate = names::user)]
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
    /// Whether everybody may.
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

/// The most characters that EC2 takes as an image's description.
const LONGEST_DESCRIPTION: usize = 255;
/// The most that are left of a tag's key for a channel.
const LONGEST_CHANNEL: usize = 113;

impl AwsImageModel {
    /// Checks what EC2 has rules for beside `aws` itself.
    pub fn validate_object(
        description: &Attr<String>,
        channels: &Attr<BTreeSet<String>>,
        diags: &mut Diagnostics,
    ) {
        if description.known().is_some_and(|text| text.chars().count() > LONGEST_DESCRIPTION) {
            let text = format!("EC2 takes {LONGEST_DESCRIPTION} characters.");
            diags.error(Path::from("description"), "Description too long", text);
        }
        let fits = |name: &String| (1..=LONGEST_CHANNEL).contains(&name.chars().count());
        if let Some(name) = channels.known().into_iter().flatten().find(|name| !fits(name)) {
            let text = format!(
                "{name:?} must have 1 to {LONGEST_CHANNEL} characters: it becomes part of a tag's key."
            );
            diags.error(Path::from("channels"), "Impossible channel", text);
        }
    }

    /// An adopted image is as it is: only where it is may be said.
    pub fn validate_existing(&self, path: &Path, diags: &mut Diagnostics) {
        let tfplugin::Value::Object(entries) = self.encode() else { return };
        for (name, value) in entries {
            if name != "region" && !value.is_null() && !value.is_unknown() {
                let text = format!(
                    "`existing_image_id` adopts an image as it is; `{name}` describes one that is built and managed. Remove one of them."
                );
                diags.error(path.attr(name), "Conflicting attributes", text);
            }
        }
    }

    /// Where else it is to be, who may use it, and when it ages. All values are known.
    pub fn distribution(&self) -> Distribution {
        let after = self.deprecate_after.known();
        Distribution {
            regions: self.ami_regions.clone().unwrap_or_default(),
            share: self.share.known().map(ShareModel::share),
            deprecate_after: after.and_then(|text| tfplugin::parse_duration(text).ok()),
        }
    }

    /// What an import tells of what the user asked for.
    pub fn imported(image: &Image, home: &str) -> Self {
        let regions: BTreeSet<String> =
            image.artifacts.keys().filter(|name| *name != home).cloned().collect();
        let aged = image.artifacts.get(home).and_then(|artifact| artifact.deprecated_at);
        Self {
            ami_regions: if regions.is_empty() { Attr::Null } else { Attr::Known(regions) },
            deprecate_after: aged.and_then(|at| after(image.created_at, at)).into(),
            ..Self::default()
        }
    }

    /// Keeps what was asked for before beside what is asked for now: not everything of it could be taken back.
    pub fn keep_shares(&mut self, prior: &Self) {
        let Some(before) = prior.share.known() else { return };
        let Attr::Known(now) = &mut self.share else {
            self.share = Attr::Known(before.clone());
            return;
        };
        for (now, before) in [
            (&mut now.account_ids, &before.account_ids),
            (&mut now.organization_arns, &before.organization_arns),
        ] {
            if let Some(before) = before.known() {
                let mut all = now.clone().unwrap_or_default();
                all.extend(before.iter().cloned());
                *now = Attr::Known(all);
            }
        }
    }

    /// Takes in what became of the distribution, so that a change from outside shows, and what failed is tried again.
    pub fn observe(&mut self, image: &Image, home: &str, shared: Option<&Share>) {
        let due = self.distribution().deprecate_after.and_then(|after| deprecation(image.created_at, after));
        let aged = |at: Option<DateTime<Utc>>| due.is_none_or(|due| ages_as(due, at, Utc::now()));
        if let Attr::Known(regions) = &mut self.ami_regions {
            regions.retain(|region| {
                let copy = image.artifacts.get(region);
                region == home
                    || copy.is_some_and(|copy| aged(copy.deprecated_at) && !image.unfinished.contains(region))
            });
        }
        let seen = image.artifacts.get(home).and_then(|artifact| artifact.deprecated_at);
        if due.is_some() && !aged(seen) {
            self.deprecate_after = seen.and_then(|at| after(image.created_at, at)).into();
        }
        if let (Attr::Known(share), Some(shared)) = (&mut self.share, shared) {
            share.observe(shared);
        }
    }

    /// Checks what can be said before values are known: an unknown value may turn out to be null.
    pub fn validate(&self, path: &Path, diags: &mut Diagnostics) {
        if self.source_image.is_known() && self.source_filter.is_known() {
            let text = "Set one of `source_image` and `source_filter`.";
            diags.error(path.attr("source_filter"), "Conflicting attributes", text);
        }
        let encrypted = self.encrypt_boot.known().copied().unwrap_or(true) && !self.encrypt_boot.is_unknown();
        if let Some(share) = self.share.known() {
            let at = path.attr("share");
            if share.public == Attr::Known(true) && encrypted {
                let text = "AWS does not make an encrypted image public: set `encrypt_boot = false`.";
                diags.error(at.attr("public"), "Encrypted image cannot be public", text);
            }
            let names_some = share.account_ids.known().is_some_and(|all| !all.is_empty())
                || share.organization_arns.known().is_some_and(|all| !all.is_empty());
            if names_some && encrypted && self.kms_key_id.is_null() {
                let text = "Others cannot use the account's default key: set `kms_key_id` to a key of your own that they may use, or `encrypt_boot = false`.";
                diags.error(path.attr("kms_key_id"), "Key cannot be shared", text);
            }
        }
        if self.kms_key_id.is_known() && self.encrypt_boot == Attr::Known(false) {
            let text = "A key is of use with `encrypt_boot = true` only.";
            diags.error(path.attr("kms_key_id"), "Key without encryption", text);
        }
        self.validate_login(path, diags);
    }

    fn validate_login(&self, path: &Path, diags: &mut Diagnostics) {
        if self.security_group_ids.is_known() && self.allowed_cidrs.is_known() {
            let text = "Set one of `security_group_ids` and `allowed_cidrs`: a group is only made when you give none.";
            diags.error(path.attr("allowed_cidrs"), "Conflicting attributes", text);
        }
        let private = self.ssh_interface.known_deref() == Some("private");
        if private && self.security_group_ids.is_null() && self.allowed_cidrs.is_null() {
            let text = "By which private address this computer comes is not known: set `allowed_cidrs` to its network, or `security_group_ids`.";
            diags.error(path.attr("allowed_cidrs"), "No way in", text);
        }
        if self.ssh_interface.known_deref() == Some("session_manager") && self.iam_instance_profile.is_null()
        {
            let text = "Session Manager reaches a machine only if its role allows it: set a profile with AmazonSSMManagedInstanceCore.";
            diags.error(path.attr("iam_instance_profile"), "No role for Session Manager", text);
        }
        if self.ssh_keypair_name.is_known() && self.ssh_private_key_path.is_null() {
            let text = "Set the path of the pair's private key.";
            diags.error(path.attr("ssh_private_key_path"), "Half a key pair", text);
        }
        if self.ssh_keypair_name.is_null() && self.ssh_private_key_path.is_known() {
            let text = "Set the name that the pair has in EC2.";
            diags.error(path.attr("ssh_keypair_name"), "Half a key pair", text);
        }
        for (name, set) in [
            ("ssh_bastion_port", self.ssh_bastion_port.is_known()),
            ("ssh_bastion_username", self.ssh_bastion_username.is_known()),
            ("ssh_bastion_private_key_path", self.ssh_bastion_private_key_path.is_known()),
        ] {
            if set && self.ssh_bastion_host.is_null() {
                let text = "Set `ssh_bastion_host`, too.";
                diags.error(path.attr(name), "No bastion", text);
            }
        }
    }

    /// What the builder needs to know. All values are known; `region` is where the image is, or is to be, when the
    /// configuration does not say.
    pub fn spec(&self, region: &str) -> AwsImageSpec {
        let arch = Arch::of_name(self.arch.known_deref());
        AwsImageSpec {
            region: self.region.known_deref().unwrap_or(region).to_owned(),
            arch,
            source: self.source(arch),
            volume: Volume {
                size_gb: self.volume_size_gb.unwrap_or(80),
                volume_type: self.volume_type.clone().into_known().unwrap_or_else(|| "gp3".to_owned()),
                iops: self.iops.known().copied(),
                throughput: self.throughput.known().copied(),
                encrypted: self.encrypt_boot.unwrap_or(true),
                kms_key_id: self.kms_key_id.clone().into_known(),
            },
            imdsv2_required: self.imdsv2.known_deref() != Some("optional"),
            verify_boot: self.verify_boot.unwrap_or(false),
            builder: Builder {
                instance_type: self
                    .instance_type
                    .clone()
                    .into_known()
                    .unwrap_or_else(|| "t3.large".to_owned()),
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
        let username = self.ssh_username.clone().into_known().unwrap_or_else(|| "ubuntu".to_owned());
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

impl ShareModel {
    fn share(&self) -> Share {
        let mut with = self.account_ids.clone().unwrap_or_default();
        with.extend(self.organization_arns.clone().unwrap_or_default());
        Share { with, public: self.public.unwrap_or(false) }
    }

    /// What others share is theirs; that everybody may is not.
    fn observe(&mut self, shared: &Share) {
        for own in [&mut self.account_ids, &mut self.organization_arns] {
            if let Attr::Known(own) = own {
                own.retain(|name| shared.with.contains(name));
            }
        }
        if self.public.is_known() || shared.public {
            self.public = shared.public.into();
        }
    }
}

/// How long after it was finished an image ages, as a user writes it.
fn after(created_at: DateTime<Utc>, at: DateTime<Utc>) -> Option<String> {
    let minutes = (at - created_at).to_std().ok().map(|after: Duration| (after.as_secs() + 30) / 60)?;
    Some(match minutes % 60 {
        0 => format!("{}h", minutes / 60),
        rest => format!("{}h{rest}m", minutes / 60),
    })
}

fn interface(value: &str) -> Result<(), String> {
    one_of(value, &["public", "private", "session_manager"])
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "validators take references")]
fn port(value: &u16) -> Result<(), String> {
    if *value > 0 { Ok(()) } else { Err("must be from 1 to 65535".into()) }
}

fn regions(values: &BTreeSet<String>) -> Result<(), String> {
    values.iter().try_for_each(|value| settings::region(value))
}

fn accounts(values: &BTreeSet<String>) -> Result<(), String> {
    values.iter().try_for_each(|value| settings::account_id(value))
}

#[expect(clippy::ptr_arg, reason = "validators take what the attribute holds")]
fn owners(values: &Vec<String>) -> Result<(), String> {
    if values.is_empty() {
        return Err("needs at least one owner: anybody can give an AMI any name".into());
    }
    values.iter().try_for_each(|owner| match owner.as_str() {
        "amazon" | "aws-marketplace" | "self" => Ok(()),
        other => settings::account_id(other),
    })
}

/// By the forms of ARNs that EC2 takes as launch permissions.
fn organizations(values: &BTreeSet<String>) -> Result<(), String> {
    values.iter().try_for_each(|arn| {
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        match parts.as_slice() {
            ["arn", partition, "organizations", "", account, rest]
                if partition.starts_with("aws")
                    && settings::account_id(account).is_ok()
                    && (rest.starts_with("organization/o-") || rest.starts_with("ou/o-")) =>
            {
                Ok(())
            }
            _ => Err(format!(
                "{arn:?} is no organisation: write arn:aws:organizations::ACCOUNT:organization/o-… or arn:aws:organizations::ACCOUNT:ou/o-…/ou-…"
            )),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::{Artifact, Labels};

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn image(aged: Option<DateTime<Utc>>, unfinished: &[&str]) -> Image {
        let artifact =
            |id: &str| Artifact { image_id: id.into(), snapshot_ids: Vec::new(), deprecated_at: aged };
        Image {
            id: "ami-1".into(),
            name: "web-1".into(),
            key: None,
            artifacts: ["us-west-2", "eu-west-1", "eu-west-2"]
                .map(|region| (region.to_owned(), artifact(region)))
                .into_iter()
                .collect::<BTreeMap<_, _>>(),
            unfinished: set(unfinished),
            labels: Labels::default(),
            resolved_base: None,
            created_at: DateTime::from_timestamp(4_000_000_000, 0).unwrap(),
            build_seconds: None,
            size_bytes: 0,
            log_path: None,
            disk: None,
        }
    }

    #[test]
    fn only_what_is_in_place_stays_in_state() {
        let share = ShareModel {
            account_ids: Attr::Known(set(&["111111111111", "222222222222"])),
            organization_arns: Attr::Null,
            public: false.into(),
        };
        let model = AwsImageModel {
            ami_regions: Attr::Known(set(&["us-west-2", "eu-west-1", "eu-west-2", "ap-south-1"])),
            deprecate_after: "24h".into(),
            share: Attr::Known(share),
            ..AwsImageModel::default()
        };
        let due = DateTime::from_timestamp(4_000_000_000 + 86400, 0);
        let seen = |aged, unfinished: &[&str], shared: Option<&Share>| {
            let mut seen = model.clone();
            seen.observe(&image(aged, unfinished), "us-west-2", shared);
            seen
        };
        let shared = Share { with: set(&["111111111111", "999999999999"]), public: true };
        let found = seen(due, &["eu-west-2"], Some(&shared));
        assert_eq!(found.ami_regions, Attr::Known(set(&["us-west-2", "eu-west-1"])));
        assert_eq!(found.deprecate_after, "24h".into());
        let share = found.share.into_known().unwrap();
        assert_eq!(share.account_ids, Attr::Known(set(&["111111111111"])));
        assert_eq!((share.organization_arns, share.public), (Attr::Null, true.into()));

        let later = DateTime::from_timestamp(4_000_000_000 + 90060, 0);
        assert_eq!(seen(later, &[], None).deprecate_after, "25h1m".into());
        let never = seen(None, &[], None);
        assert_eq!(
            (never.deprecate_after, never.ami_regions),
            (Attr::Null, Attr::Known(set(&["us-west-2"])))
        );
    }

    #[test]
    fn an_import_tells_what_there_is() {
        let due = DateTime::from_timestamp(4_000_000_000 + 86400, 0);
        let model = AwsImageModel::imported(&image(due, &[]), "us-west-2");
        assert_eq!(model.ami_regions, Attr::Known(set(&["eu-west-1", "eu-west-2"])));
        assert_eq!((model.deprecate_after, model.share), ("24h".into(), Attr::Null));
    }

    /// What is not in this list is free to change, unknown, or set on one machine only, without a build.
    #[test]
    fn the_key_is_made_of_the_content() {
        for attribute in AwsImageModel::attributes() {
            let content = CONTENT.contains(&attribute.name.as_ref());
            let place = ["ami_regions", "share", "deprecate_after"].contains(&attribute.name.as_ref());
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
