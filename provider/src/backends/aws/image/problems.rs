//! What is impossible about an image, as far as it can be said before AWS is asked.

use std::ffi::OsStr;
use std::path::Path;

use super::{AwsImageSpec, Interface, Volume};
use crate::backends::aws::tags;
use crate::domain::causes;
use crate::domain::{Distribution, Labels};
use crate::process::{programs_in, search_path};
use crate::ssh;

/// Problems, each with the name of the attribute that it is about, dots between its parts.
type Problems = Vec<(String, String)>;

/// AWS's program for the near end of a session.
const SESSION_MANAGER: &str = "session-manager-plugin";
/// The most tags that EC2 takes on one thing.
const MOST_TAGS: usize = 50;
/// What is left of them for our own: key, build, deadline, base, duration, look and name, and six resources that hold the image.
const OUR_TAGS: usize = 13;
/// What a copy needs of them on its image while it is made.
const TAGS_A_COPY: usize = 2;

/// What is wrong with the image itself.
pub(crate) fn problems(aws: &AwsImageSpec) -> Problems {
    volume(&aws.volume)
}

/// What is wrong with the way to build it. An image that is there already is of use all the same.
pub(crate) fn build_problems(aws: &AwsImageSpec) -> Problems {
    let login = &aws.builder.login;
    let bastion = login.bastion.as_ref().and_then(|bastion| bastion.private_key_path.as_deref());
    let keys = [
        ("aws.ssh_private_key_path", login.private_key_path.as_deref()),
        ("aws.ssh_bastion_private_key_path", bastion),
    ];
    let missing = keys.into_iter().filter_map(|(attribute, path)| Some((attribute, path?)));
    let missing = missing.filter(|(_, path)| !path.is_file());
    let mut problems: Problems =
        missing.map(|(attribute, path)| (attribute.to_owned(), no_file(path))).collect();
    let told = |(attribute, problem): (&str, String)| (attribute.to_owned(), problem);
    if problems.is_empty() {
        problems.extend(unverifiable(aws).map(told));
    }
    problems.extend(no_session_manager(login.interface, &search_path()).map(told));
    problems
}

/// Why Packer gets no session: AWS's own program makes it, and is looked for only when the builder is there.
pub(super) fn no_session_manager(interface: Interface, path: &OsStr) -> Option<(&'static str, String)> {
    let is_there = || !programs_in(path, SESSION_MANAGER).is_empty();
    if interface != Interface::SessionManager || is_there() {
        return None;
    }
    let text = format!(
        "There is no {SESSION_MANAGER} in PATH, which Packer needs for \"session_manager\": install it (https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-working-with-install-plugin.html)."
    );
    Some(("aws.ssh_interface", text))
}

/// Why no machine from the finished image can be checked: Packer reaches its builder in ways that we do not know.
pub(super) fn unverifiable(aws: &AwsImageSpec) -> Option<(&'static str, String)> {
    let login = &aws.builder.login;
    let way = match (&login.bastion, login.interface) {
        (Some(_), _) => Some("through a bastion"),
        (None, Interface::SessionManager) => Some("by Session Manager"),
        _ => None,
    };
    if !aws.verify_boot {
        return None;
    }
    if let Some(way) = way {
        let text = format!(
            "A machine from the finished image is not reached {way} in this version: leave `verify_boot` out, and the checks run in the builder before the image is made, or reach the builder by its own address."
        );
        return Some(("aws.verify_boot", text));
    }
    let error = ssh::load(login.private_key_path.as_ref()?).err()?;
    let text = format!("{}. With `verify_boot` it is needed for a login of ours.", causes(&error));
    Some(("aws.ssh_private_key_path", text))
}

fn no_file(path: &Path) -> String {
    let shown = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    format!("There is no file {}. Write \"${{path.module}}/…\", or pathexpand(\"~/…\").", shown.display())
}

/// What is wrong with what can change in place. The provider's default tags are among the labels' own.
pub(crate) fn label_problems(labels: &Labels, distribution: &Distribution) -> Problems {
    let mut problems = Problems::new();
    for (key, value) in &labels.tags {
        if let Err(why) = tags::check(key, value) {
            let text =
                format!("In the tag {key:?}, the image's own or of the provider's `default_tags`, {why}.");
            problems.push(("tags".to_owned(), text));
        }
    }
    let (own, channels) = (labels.tags.len(), labels.channels.len());
    let copies = distribution.regions.len();
    let all = own + channels + TAGS_A_COPY * copies + OUR_TAGS;
    if all > MOST_TAGS {
        let text = format!(
            "EC2 takes {MOST_TAGS} tags on an image. Here are {own} with the provider's `default_tags`, {channels} for channels, {} for copies in other regions, and {OUR_TAGS} that Sindri needs itself.",
            TAGS_A_COPY * copies
        );
        problems.push(("tags".to_owned(), text));
    }
    problems
}

/// What EBS does not make (<https://docs.aws.amazon.com/ebs/latest/userguide/ebs-volume-types.html>). Largest figures are
/// left to EC2 where they have grown before.
fn volume(volume: &Volume) -> Problems {
    let kind = volume.volume_type.as_str();
    let mut problems = Problems::new();
    let mut wrong = |name: &str, text: String| problems.push((format!("aws.{name}"), text));
    let least = match kind {
        "gp3" => Some(3000),
        "io1" | "io2" => Some(100),
        _ => None,
    };
    match (least, volume.iops) {
        (None, Some(_)) => wrong("iops", format!("A {kind} volume has none to set: use gp3, io1 or io2.")),
        (Some(least), Some(iops)) if iops < least => {
            wrong("iops", format!("A {kind} volume has at least {least}."));
        }
        (Some(_), None) if kind != "gp3" => wrong("iops", format!("A {kind} volume needs it set.")),
        _ => {}
    }
    if let Some(throughput) = volume.throughput {
        let iops = volume.iops.unwrap_or(3000);
        if kind != "gp3" {
            wrong("throughput", format!("A {kind} volume has none to set: use gp3."));
        } else if throughput < 125 {
            wrong("throughput", "A gp3 volume has at least 125 MiB a second.".to_owned());
        } else if throughput > iops / 4 {
            let needed = throughput.saturating_mul(4);
            let text = format!("A gp3 volume has a quarter of its `iops` at most: set them to {needed}.");
            wrong("throughput", text);
        }
    }
    let size = volume.size_gb;
    match kind {
        "standard" if size > 1024 => {
            wrong("volume_size_gb", "A standard volume has at most 1024 GiB.".to_owned());
        }
        "io1" | "io2" if size < 4 => wrong("volume_size_gb", format!("A {kind} volume has at least 4 GiB.")),
        _ => {}
    }
    problems
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::backends::aws::model::AwsImageModel;

    fn attributes(problems: &Problems) -> Vec<&str> {
        problems.iter().map(|(attribute, _)| attribute.as_str()).collect()
    }

    #[test]
    fn machines_from_the_image_that_we_do_not_reach_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (ed25519, other) = (folder.path().join("ed25519"), folder.path().join("other"));
        ssh::generate(&ed25519, "of the user").unwrap();
        std::fs::write(&other, "not a key of ours").unwrap();
        let by = |interface: &str| AwsImageModel { ssh_interface: interface.into(), ..Default::default() };
        let with = |key: &Path| AwsImageModel {
            ssh_keypair_name: "mine".into(),
            ssh_private_key_path: key.display().to_string().into(),
            ..Default::default()
        };
        let bastion = AwsImageModel { ssh_bastion_host: "bastion".into(), ..Default::default() };
        for (model, expected) in [
            (by("public"), None),
            (by("private"), None),
            (by("session_manager"), Some("aws.verify_boot")),
            (bastion, Some("aws.verify_boot")),
            (with(&ed25519), None),
            (with(&other), Some("aws.ssh_private_key_path")),
        ] {
            let told = |verify_boot: bool| {
                let model = AwsImageModel { verify_boot: verify_boot.into(), ..model.clone() };
                let mut problems = build_problems(&model.spec("us-west-2"));
                // What is installed here does not matter.
                problems.retain(|(attribute, _)| attribute != "aws.ssh_interface");
                problems
            };
            assert_eq!(attributes(&told(false)), [""; 0], "{model:?}");
            assert_eq!(attributes(&told(true)), expected.as_slice(), "{model:?}");
        }
    }

    #[test]
    fn session_manager_needs_its_program() {
        let folder = tempfile::tempdir().unwrap();
        let told = |interface| {
            let path = std::env::join_paths(["/nonexistent".as_ref(), folder.path()]).unwrap();
            no_session_manager(interface, &path).map(|(attribute, _)| attribute)
        };
        assert_eq!(told(Interface::Public), None);
        assert_eq!(told(Interface::SessionManager), Some("aws.ssh_interface"));
        std::fs::write(folder.path().join(SESSION_MANAGER), "").unwrap();
        assert_eq!(told(Interface::SessionManager), None);
    }

    #[test]
    fn volumes_that_ebs_does_not_make_are_refused() {
        type Case = (&'static str, u32, Option<u32>, Option<u32>, &'static [&'static str]);
        let cases: &[Case] = &[
            ("gp3", 80, None, None, &[]),
            ("gp3", 80, Some(6000), Some(1000), &[]),
            ("gp3", 80, None, Some(750), &[]),
            ("gp3", 80, None, Some(751), &["aws.throughput"]),
            ("gp3", 80, Some(2999), None, &["aws.iops"]),
            ("gp3", 80, None, Some(124), &["aws.throughput"]),
            ("gp3", 80, None, Some(u32::MAX), &["aws.throughput"]),
            ("gp2", 80, None, None, &[]),
            ("gp2", 80, Some(3000), Some(125), &["aws.iops", "aws.throughput"]),
            ("standard", 80, Some(3000), None, &["aws.iops"]),
            ("standard", 1025, None, None, &["aws.volume_size_gb"]),
            ("io1", 80, None, None, &["aws.iops"]),
            ("io1", 80, Some(99), None, &["aws.iops"]),
            ("io2", 80, Some(100), Some(125), &["aws.throughput"]),
            ("io2", 3, Some(100), None, &["aws.volume_size_gb"]),
        ];
        for (kind, size, iops, throughput, expected) in cases {
            let model = AwsImageModel {
                volume_type: (*kind).into(),
                volume_size_gb: (*size).into(),
                iops: (*iops).into(),
                throughput: (*throughput).into(),
                ..Default::default()
            };
            let problems = problems(&model.spec("us-west-2"));
            assert_eq!(attributes(&problems), *expected, "{kind} {size} {iops:?} {throughput:?}");
        }
    }

    #[test]
    fn keys_that_are_not_there_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        std::fs::write(&key, "").unwrap();
        let (key, missing) = (key.display().to_string(), folder.path().join("no").display().to_string());
        let folder = folder.path().display().to_string();
        for (path, bastion, expected) in [
            (None, None, &[][..]),
            (Some(&key), Some(&key), &[]),
            (Some(&missing), None, &["aws.ssh_private_key_path"]),
            (Some(&folder), Some(&key), &["aws.ssh_private_key_path"]),
            (None, Some(&missing), &["aws.ssh_bastion_private_key_path"]),
        ] {
            let model = AwsImageModel {
                ssh_keypair_name: "mine".into(),
                ssh_private_key_path: path.cloned().into(),
                ssh_bastion_host: "bastion".into(),
                ssh_bastion_private_key_path: bastion.cloned().into(),
                ..Default::default()
            };
            let problems = build_problems(&model.spec("us-west-2"));
            assert_eq!(attributes(&problems), expected, "{path:?} {bastion:?}");
        }
    }

    #[test]
    fn tags_that_ec2_does_not_take_are_refused() {
        let many = |count: usize| (0..count).map(|number| format!("t{number}"));
        let cases = [
            (many(37).collect::<Vec<_>>(), 0, 0, true),
            (many(38).collect(), 0, 0, false),
            (many(29).collect(), 8, 0, true),
            (many(29).collect(), 9, 0, false),
            (many(29).collect(), 2, 3, true),
            (many(29).collect(), 3, 3, false),
            (vec!["sindri_key".to_owned()], 0, 0, false),
            (vec!["aws:x".to_owned()], 0, 0, false),
        ];
        for (tags, channels, copies, good) in cases {
            let shown = format!("{} {channels} {copies}", tags.len());
            let tags: BTreeMap<_, _> = tags.into_iter().map(|key| (key, "x".to_owned())).collect();
            let labels = Labels { description: None, tags, channels: many(channels).collect() };
            let regions: BTreeSet<String> = many(copies).collect();
            let distribution = Distribution { regions, ..Default::default() };
            let problems = label_problems(&labels, &distribution);
            assert_eq!(attributes(&problems), if good { &[][..] } else { &["tags"] }, "{shown}");
        }
    }
}
