//! What can be said of the configuration before values are known.

use std::collections::BTreeSet;
use std::time::Duration;

use tfplugin::{Attr, Diagnostics, Model, Path};

use super::super::words::{is_none, is_some};
use super::{AwsImageModel, INSTANCE_TYPE};
use crate::domain::Arch;

/// Not a leap year's: what is allowed is allowed in any.
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// The most characters that EC2 takes as an image's description.
const LONGEST_DESCRIPTION: usize = 255;
/// The most that are left of a tag's key for a channel.
const LONGEST_CHANNEL: usize = 113;

impl AwsImageModel {
    /// Checks what EC2 has rules for beside `aws` itself.
    pub(super) fn check_object(
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
    pub(super) fn check_existing(&self, path: &Path, diags: &mut Diagnostics) {
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

    /// Checks what can be said before values are known: an unknown value may turn out to be null.
    pub(super) fn check(&self, path: &Path, diags: &mut Diagnostics) {
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
            let stays = self.kms_key_id.known_deref().is_some_and(is_of_one_region);
            let elsewhere = |name: &String| Some(name.as_str()) != self.region.known_deref();
            if names_some
                && encrypted
                && stays
                && self.ami_regions.known().into_iter().flatten().any(elsewhere)
            {
                let text = "This key is of one region. Copies in `ami_regions` have their region's default key then, which others cannot use: set it to a multi-Region key (mrk-…) that has replicas there, or share no copies.";
                diags.error(path.attr("kms_key_id"), "Key does not go along", text);
            }
            if names_some && encrypted && self.kms_key_id.is_null() {
                let text = "Others cannot use the account's default key: set `kms_key_id` to a key of your own that they may use, or `encrypt_boot = false`.";
                diags.error(path.attr("kms_key_id"), "Key cannot be shared", text);
            }
        }
        if self.kms_key_id.is_known() && self.encrypt_boot == Attr::Known(false) {
            let text = "A key is of use with `encrypt_boot = true` only.";
            diags.error(path.attr("kms_key_id"), "Key without encryption", text);
        }
        self.validate_age(path, diags);
        self.validate_builder(path, diags);
        self.validate_login(path, diags);
    }

    /// EC2's own limits (`EnableImageDeprecation`, `DeprecateAt`).
    fn validate_age(&self, path: &Path, diags: &mut Diagnostics) {
        let after = self.deprecate_after.known().and_then(|text| tfplugin::parse_duration(text).ok());
        let public = self.share.known().is_some_and(|share| share.public == Attr::Known(true));
        let (years, whose) = if public { (2, "a public image") } else { (10, "an image") };
        if after.is_some_and(|after| after > YEAR * years) {
            let hours = years * 365 * 24;
            let text = format!("EC2 lets {whose} age within {years} years: write \"{hours}h\" at most.");
            diags.error(path.attr("deprecate_after"), "Too long", text);
        }
    }

    fn validate_builder(&self, path: &Path, diags: &mut Diagnostics) {
        let arch = (!self.arch.is_unknown()).then(|| Arch::of_name(self.arch.known_deref()));
        let size =
            if self.instance_type.is_null() { Some(INSTANCE_TYPE) } else { self.instance_type.known_deref() };
        if let (Some(arch), Some(size)) = (arch, size)
            && processors(size).is_some_and(|of_size| of_size != arch)
        {
            let text = format!(
                "An image for {} is not built on a {size}: set `instance_type` to one with such processors, such as {:?}.",
                arch.name(),
                if arch == Arch::Arm64 { "t4g.large" } else { INSTANCE_TYPE }
            );
            diags.error(path.attr("instance_type"), "Other processors", text);
        }
        if self.iam_instance_profile.known().is_some_and(|name| name.starts_with("arn:")) {
            let text = "Write the profile's name, which is the last part of its ARN.";
            diags.error(path.attr("iam_instance_profile"), "ARN instead of a name", text);
        }
        let public = self.ssh_interface.known_deref().unwrap_or("public") == "public"
            && !self.ssh_interface.is_unknown();
        if public && self.associate_public_address == Attr::Known(false) && self.ssh_host.is_null() {
            let text = "Without a public address nobody reaches the builder by one: set `ssh_interface` to \"private\" or \"session_manager\", or `ssh_host`.";
            diags.error(path.attr("associate_public_address"), "No way in", text);
        }
    }

    fn validate_login(&self, path: &Path, diags: &mut Diagnostics) {
        if is_some(&self.security_group_ids) && is_some(&self.allowed_cidrs) {
            let text = "Set one of `security_group_ids` and `allowed_cidrs`: a group is only made when you give none.";
            diags.error(path.attr("allowed_cidrs"), "Conflicting attributes", text);
        }
        let private = self.ssh_interface.known_deref() == Some("private");
        let unsaid = is_none(&self.security_group_ids) && is_none(&self.allowed_cidrs);
        if unsaid && (private || self.ssh_bastion_host.is_known()) {
            let text = "From which address the builder is reached is not known: set `allowed_cidrs` to the network of this computer, or of the bastion where there is one, or `security_group_ids`.";
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
}

/// Whether a KMS key is certainly of one region: a multi-Region key's id begins with `mrk-`, and what an alias stands for is
/// not known here.
fn is_of_one_region(key: &str) -> bool {
    let (kind, id) = key.rsplit(':').next().and_then(|last| last.split_once('/')).unwrap_or(("key", key));
    kind == "key" && !id.starts_with("mrk-")
}

/// Whose processors a builder of this size has, where its name tells: Graviton's families have a `g` after their number
/// (<https://docs.aws.amazon.com/ec2/latest/instancetypes/instance-type-names.html>).
fn processors(size: &str) -> Option<Arch> {
    let (family, _) = size.split_once('.')?;
    let number = family.find(|c: char| c.is_ascii_digit())?;
    let (series, rest) = family.split_at(number);
    let options = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let is_plain = |text: &str| text.chars().all(|c| c.is_ascii_lowercase());
    if series == "mac" || !is_plain(series) || !is_plain(options) {
        return None;
    }
    let arm = family == "a1" || options.contains('g');
    Some(if arm { Arch::Arm64 } else { Arch::X86_64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_of_families() {
        let (x86, arm) = (Some(Arch::X86_64), Some(Arch::Arm64));
        for (size, expected) in [
            ("t3.large", x86),
            ("m7i.large", x86),
            ("c6a.metal", x86),
            ("g5.xlarge", x86),
            ("g4dn.xlarge", x86),
            ("gr6.4xlarge", x86),
            ("t4g.large", arm),
            ("c7gn.large", arm),
            ("im4gn.large", arm),
            ("g5g.xlarge", arm),
            ("a1.large", arm),
            ("mac2.metal", None),
            ("u-6tb1.metal", None),
            ("p6e-gb200.36xlarge", None),
            ("large", None),
            ("", None),
        ] {
            assert_eq!(processors(size), expected, "{size}");
        }
    }
}
