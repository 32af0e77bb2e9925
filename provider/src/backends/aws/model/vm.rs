//! `aws = { … }` of a machine.

mod section;

use std::collections::BTreeSet;

use tfplugin::{Attr, Diagnostics, Model, Path};

use super::INSTANCE_TYPE;
use super::words::{cidrs, imdsv2, is_none, is_some, volume_type, word};
use crate::backends::aws::settings;
use crate::backends::aws::vm::{AwsVmSpec, RootVolume, names_profile};
use crate::domain::Surroundings;
use crate::domain::rules::positive;

/// The most that EC2 takes as user data, before they are encoded.
const MOST_USER_DATA: usize = 16 * 1024;

/// Runs the machine on AWS, as an EC2 instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Model)]
pub struct AwsVmModel {
    /// Where it runs; the provider's region when not set.
    #[attr(optional, validate = settings::region)]
    pub region: Attr<String>,
    /// Its size. A change stops the machine, changes it, and starts it again.
    #[attr(optional, default = INSTANCE_TYPE.to_owned(), validate = word)]
    pub instance_type: Attr<String>,
    /// The subnet; one of the default VPC's when not set.
    #[attr(optional, validate = word)]
    pub subnet_id: Attr<String>,
    /// Security groups. Other ones change in place. When there are none, one is made for the machine, which lets
    /// `allowed_cidrs` reach SSH.
    #[attr(optional)]
    pub security_group_ids: Attr<Vec<String>>,
    /// Networks that may reach SSH, such as `["203.0.113.7/32"]`. Changes in place.
    #[attr(optional, validate = cidrs)]
    pub allowed_cidrs: Attr<Vec<String>>,
    /// Whether it gets a public address; the subnet's own setting when not set.
    #[attr(optional)]
    pub associate_public_address: Attr<bool>,
    /// Whether it runs on spare capacity: cheaper, and AWS may take it away at any time. A change of `instance_type` or
    /// `power_state` makes such a machine anew.
    #[attr(optional, default = false)]
    pub spot: Attr<bool>,
    /// Its root volume, where it differs from the image's.
    #[attr(optional)]
    pub root_volume: Attr<RootVolumeModel>,
    /// The name or ARN of an instance profile, which gives the machine a role. Another one changes in place.
    #[attr(optional, validate = word)]
    pub iam_instance_profile: Attr<String>,
    /// `"required"`: instance metadata only with session tokens (IMDSv2), or `"optional"`. Changes in place.
    #[attr(optional, default = "required", validate = imdsv2)]
    pub imdsv2: Attr<String>,
}

/// A root volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Model)]
pub struct RootVolumeModel {
    /// GiB; the image's own when not set.
    #[attr(optional, validate = positive)]
    pub size_gb: Attr<u32>,
    /// `"gp3"`, `"gp2"`, `"io1"`, `"io2"` or `"standard"`.
    #[attr(optional, validate = volume_type)]
    pub volume_type: Attr<String>,
    /// Whether it is encrypted, even if the image is not.
    #[attr(optional)]
    pub encrypted: Attr<bool>,
    /// The KMS key for that; the account's default one when not set.
    #[attr(optional, validate = word)]
    pub kms_key_id: Attr<String>,
    /// Operations a second, for `gp3`, `io1` and `io2`.
    #[attr(optional, validate = positive)]
    pub iops: Attr<u32>,
    /// MiB a second, for `gp3`.
    #[attr(optional, validate = positive)]
    pub throughput: Attr<u32>,
}

impl AwsVmModel {
    /// Checks what can be said before values are known. `reached` tells whether a launch waits for SSH at the
    /// machine's own address.
    fn check(&self, path: &Path, reached: bool, diags: &mut Diagnostics) {
        if is_some(&self.security_group_ids) && is_some(&self.allowed_cidrs) {
            let text = "Set one of `security_group_ids` and `allowed_cidrs`: a group is only made when you give none.";
            diags.error(path.attr("allowed_cidrs"), "Conflicting attributes", text);
        }
        if reached && is_none(&self.security_group_ids) && is_none(&self.allowed_cidrs) {
            let text = "Nobody could reach the machine: set `allowed_cidrs` to the networks that may use SSH (such as this computer's public address with /32), or `security_group_ids`, or `wait_for = \"none\"`.";
            diags.error(path.attr("allowed_cidrs"), "No way in", text);
        }
        let Some(volume) = self.root_volume.known() else { return };
        if volume.kms_key_id.is_known()
            && volume.encrypted.known() != Some(&true)
            && !volume.encrypted.is_unknown()
        {
            let text = "A key is of use with `encrypted = true` only.";
            diags.error(path.attr("root_volume").attr("kms_key_id"), "Key without encryption", text);
        }
    }

    /// Checks user data by EC2's rules; `name` is the attribute that has them.
    fn check_user_data(name: &str, user_data: &Attr<String>, diags: &mut Diagnostics) {
        if user_data.known().is_some_and(|text| text.len() > MOST_USER_DATA) {
            let text = format!(
                "EC2 takes {MOST_USER_DATA} bytes. Let a short script fetch the rest, or put it into the image."
            );
            diags.error(Path::from(name), "User data too long", text);
        }
    }

    /// Takes over where the machine differs from what is configured. What the user left open is not managed. SSH listens on
    /// `port`.
    fn adopt(&mut self, seen: &Surroundings, port: u16) {
        if let (Attr::Known(cidrs), Some(admitted)) = (&mut self.allowed_cidrs, &seen.admitted) {
            take_over(cidrs, admitted.iter().filter(|(at, _)| *at == port).map(|(_, cidr)| cidr));
        }
        // With none of the user's there is one that was made for the machine.
        if let Attr::Known(groups) = &mut self.security_group_ids
            && !groups.is_empty()
        {
            take_over(groups, &seen.security_groups);
        }
        let there = seen.instance_profile.as_deref();
        if let Attr::Known(named) = &self.iam_instance_profile
            && !there.is_some_and(|arn| names_profile(named, arn))
        {
            self.iam_instance_profile = there.map(str::to_owned).into();
        }
        if let (Attr::Known(imdsv2), Some(required)) = (&mut self.imdsv2, seen.tokens_required) {
            *imdsv2 = if required { "required" } else { "optional" }.to_owned();
        }
    }

    /// What the backend needs to know. All values are known; `region` is where the machine is, if it is there.
    fn spec(&self, region: Option<&str>) -> AwsVmSpec {
        AwsVmSpec {
            region: self.region.known_deref().or(region).map(str::to_owned),
            instance_type: self.instance_type.known_deref().unwrap_or(INSTANCE_TYPE).to_owned(),
            subnet_id: self.subnet_id.clone().into_known(),
            security_group_ids: self.security_group_ids.clone().unwrap_or_default(),
            allowed_cidrs: self.allowed_cidrs.clone().into_known(),
            associate_public_address: self.associate_public_address.known().copied(),
            spot: self.spot.unwrap_or(false),
            root_volume: self.root_volume.known().map(RootVolumeModel::spec).unwrap_or_default(),
            iam_instance_profile: self.iam_instance_profile.clone().into_known(),
            imdsv2_required: self.imdsv2.known_deref() != Some("optional"),
        }
    }
}

/// Another set of words takes the place of a list; the same in another order is the same.
fn take_over<'a>(list: &mut Vec<String>, there: impl IntoIterator<Item = &'a String>) {
    let there: BTreeSet<&String> = there.into_iter().collect();
    if list.iter().collect::<BTreeSet<_>>() != there {
        *list = there.into_iter().cloned().collect();
    }
}

impl RootVolumeModel {
    fn spec(&self) -> RootVolume {
        RootVolume {
            size_gb: self.size_gb.known().copied(),
            volume_type: self.volume_type.clone().into_known(),
            encrypted: self.encrypted.known().copied(),
            kms_key_id: self.kms_key_id.clone().into_known(),
            iops: self.iops.known().copied(),
            throughput: self.throughput.known().copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::section::with_defaults;

    #[test]
    fn what_is_not_said_is_the_schemas_default() {
        let defaults: AwsVmModel = with_defaults();
        assert_eq!(defaults.spec(None), AwsVmModel::default().spec(None));
    }

    #[test]
    fn what_is_configured_follows_the_machine() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let arn = "arn:aws:iam::123456789012:instance-profile/x/ci";
        let seen = Surroundings {
            admitted: Some(
                [(22, "10.0.0.0/8".into()), (22, "192.0.2.0/24".into()), (443, "0.0.0.0/0".into())].into(),
            ),
            security_groups: ["sg-1".into(), "sg-2".into()].into(),
            instance_profile: Some(arn.into()),
            tokens_required: Some(false),
        };
        let list = |list: &[&str]| Attr::Known(words(list));
        for (cidrs, groups, profile, port, expected) in [
            (Attr::Null, Attr::Null, Attr::Null, 22, (Attr::Null, Attr::Null, Attr::Null)),
            (
                list(&["192.0.2.0/24", "10.0.0.0/8"]),
                list(&["sg-2", "sg-1"]),
                Attr::from("ci"),
                22,
                (list(&["192.0.2.0/24", "10.0.0.0/8"]), list(&["sg-2", "sg-1"]), Attr::from("ci")),
            ),
            (
                list(&["10.0.0.0/8"]),
                list(&["sg-3"]),
                Attr::from("x"),
                2222,
                (list(&[]), list(&["sg-1", "sg-2"]), Attr::from(arn)),
            ),
            (
                list(&[]),
                list(&[]),
                Attr::Null,
                22,
                (list(&["10.0.0.0/8", "192.0.2.0/24"]), list(&[]), Attr::Null),
            ),
        ] {
            let mut model = AwsVmModel {
                allowed_cidrs: cidrs,
                security_group_ids: groups,
                iam_instance_profile: profile,
                imdsv2: "required".into(),
                ..AwsVmModel::default()
            };
            model.adopt(&seen, port);
            let told = (model.allowed_cidrs, model.security_group_ids, model.iam_instance_profile);
            assert_eq!((told, model.imdsv2), (expected, "optional".into()));
        }
    }

    #[test]
    fn the_default_is_the_schemas() {
        let attributes = AwsVmModel::attributes();
        let size = attributes.iter().find(|attribute| attribute.name == "instance_type").unwrap();
        assert!(format!("{size:?}").contains(INSTANCE_TYPE));
        assert_eq!(AwsVmModel::default().spec(None).instance_type, INSTANCE_TYPE);
    }
}
