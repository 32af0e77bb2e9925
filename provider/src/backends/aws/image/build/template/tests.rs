use std::collections::BTreeSet;

use aws_sdk_ec2::types::BlockDeviceMapping;
use proptest::prelude::*;

use super::*;
use crate::backends::aws::image::{Bastion, Builder, Login, Source, Volume};
use crate::backends::aws::model::with_text;
use crate::domain::{Arch, Origin};
use crate::packer::formatted::assert_formatted;

fn part(kind: Kind) -> Part {
    let timeout = matches!(kind, Kind::Limited | Kind::Return).then(|| Duration::from_secs(90));
    let text = || "x".to_owned();
    Part { kind, name: text(), of: Origin::Sindri, source: text(), destination: text(), timeout }
}

fn all() -> Vec<Part> {
    [Kind::Script, Kind::Limited, Kind::Upload, Kind::Reboot, Kind::Return].map(part).into()
}

fn spec(text: &str) -> AwsImageSpec {
    let one = || text.to_owned();
    AwsImageSpec {
        region: "us-west-2".into(),
        arch: Arch::X86_64,
        source: Source::Id("ami-0".into()),
        volume: Volume {
            size_gb: 80,
            volume_type: "gp3".into(),
            iops: None,
            throughput: None,
            encrypted: true,
            kms_key_id: None,
        },
        imdsv2_required: true,
        verify_boot: false,
        for_everybody: false,
        builder: Builder {
            instance_type: one(),
            vpc_id: None,
            subnet_id: Some(one()),
            security_group_ids: Vec::new(),
            allowed_cidrs: Vec::new(),
            iam_instance_profile: Some(one()),
            associate_public_address: Some(true),
            spot: true,
            login: Login {
                username: "ubuntu".into(),
                interface: Interface::Public,
                host: None,
                port: Some(2222),
                keypair_name: None,
                private_key_path: None,
                bastion: Some(Bastion {
                    host: one(),
                    port: None,
                    username: one(),
                    private_key_path: Some(text.into()),
                }),
            },
        },
    }
}

fn files(text: &str) -> Value {
    let spec = spec(text);
    let base = Ami::builder().image_id("ami-0").root_device_name("/dev/xvda").build();
    let tags = BTreeMap::from([(text.to_owned(), text.to_owned())]);
    let values = Values {
        spec: &spec,
        name: "web-0123456789ab-012345",
        base: &base,
        tags: &tags,
        groups: &["sg-1".to_owned()],
        key_name: "sindri-1",
        key_file: text,
        endpoint: None,
        boot: Duration::from_secs(900),
    };
    variables(&values, &all()).values()
}

fn oldest() -> Form {
    forms(NEEDED, false, true, 0, &all()).unwrap().remove(0)
}

#[test]
fn rendered_templates() {
    insta::assert_snapshot!("oldest", oldest().hcl);
    let newest = forms(Version::new(1, 11, 0), false, false, 0, &[]).unwrap();
    assert_eq!(newest.len(), 1);
    insta::assert_snapshot!("required", newest[0].hcl);
    let bundled = forms(Version::new(1, 10, 0), false, false, 0, &[]).unwrap();
    insta::assert_snapshot!("bundled_with_metadata", bundled[0].hcl);
    insta::assert_snapshot!("bundled_without_metadata", bundled[1].hcl);
    let own = forms(Version::new(1, 11, 0), true, false, 0, &[]).unwrap();
    assert!(own[0].hcl.contains(r#"version = ">= 1.2.0, < 2.0.0""#), "{}", own[0].hcl);
    let tried: Vec<_> = forms(Version::new(1, 10, 0), false, false, 0, &[])
        .unwrap()
        .iter()
        .map(|form| (form.plugins, asks_for_tokens(form)))
        .collect();
    assert_eq!(tried, [(Plugins::Bundled, true), (Plugins::Bundled, false), (Plugins::Required, true)]);
    assert!(!asks_for_tokens(&oldest()));
}

#[test]
fn values_of_a_build() {
    insta::assert_snapshot!("values", serde_json::to_string_pretty(&files("x")).unwrap());
}

/// A volume that stays when the builder goes would cost money, and a plain one would tell what is to be encrypted.
#[test]
fn all_volumes_of_the_source_go_with_the_builder_and_are_encrypted() {
    let volume = |device: &str, kind: &str| {
        let ebs =
            EbsBlockDevice::builder().volume_size(9).volume_type(kind.into()).iops(3000).throughput(125);
        let ebs = ebs.delete_on_termination(false).encrypted(false).build();
        BlockDeviceMapping::builder().device_name(device).ebs(ebs).build()
    };
    let ephemeral = BlockDeviceMapping::builder().device_name("/dev/sdc").virtual_name("ephemeral0").build();
    let base = Ami::builder()
        .root_device_name("/dev/xvda")
        .block_device_mappings(volume("/dev/sdf", "gp2"))
        .block_device_mappings(volume("/dev/xvda", "gp3"))
        .block_device_mappings(ephemeral)
        .block_device_mappings(volume("/dev/sdg", "gp3"))
        .build();
    let mut spec = spec("x");
    spec.volume.kms_key_id = Some("k".into());
    let named = |device: &str, kind: &str, iops: Option<u32>, throughput: Option<u32>| json!({ "device": device, "size": 9, "type": kind, "iops": iops, "throughput": throughput, "encrypted": true, "kms_key_id": "k" });
    let expected = [named("/dev/sdf", "gp2", None, None), named("/dev/sdg", "gp3", Some(3000), Some(125))];
    assert_eq!(others(&spec, &base), expected);
    spec.volume.encrypted = false;
    assert_eq!(others(&spec, &base)[0]["encrypted"], Value::Null, "as in the source image");
    let form = forms(NEEDED, false, false, 2, &[]).unwrap().remove(0).hcl;
    for at in ["other_volumes[0].device", "other_volumes[1].device"] {
        assert!(form.contains(at), "no {at} in {form}");
    }
    assert_eq!(form.matches("delete_on_termination = true").count(), 3);
}

#[test]
fn only_gp3_has_numbers_that_nobody_asked_for() {
    let mut spec = spec("x");
    spec.volume.volume_type = "gp2".into();
    assert_eq!(volume(&spec, "/dev/sda1")["iops"], Value::Null);
    (spec.volume.volume_type, spec.volume.iops) = ("gp3".into(), Some(4000));
    let made = volume(&spec, "/dev/sda1");
    assert_eq!((&made["iops"], &made["throughput"]), (&json!(4000), &json!(125)));
}

#[test]
fn packer_itself_would_format_it_no_other_way() {
    for version in [NEEDED, Version::new(1, 10, 0)] {
        for form in [0, 2].into_iter().flat_map(|others| forms(version, false, true, others, &all()).unwrap())
        {
            assert_formatted(&form.hcl);
        }
    }
}

/// Attributes of which no text comes to Packer: what is asked of EC2, done afterwards, or one of a few words.
const NOT_FOR_PACKER: &[&str] = &[
    "arch",
    "source_image",
    "source_filter.name",
    "source_filter.owners",
    "imdsv2",
    "allowed_cidrs",
    "ssh_interface",
    "ami_regions",
    "share.account_ids",
    "share.organization_arns",
    "deprecate_after",
];

/// All text that Packer is given for this, as Packer understands it.
fn given(spec: &AwsImageSpec) -> BTreeSet<String> {
    let login = &spec.builder.login;
    let (key_name, key_file) = (login.keypair_name.as_deref(), login.private_key_path.as_ref());
    let base = Ami::builder().image_id("ami-0").root_device_name("/dev/xvda").build();
    let values = Values {
        spec,
        name: "web-0123456789ab-012345",
        base: &base,
        tags: &BTreeMap::new(),
        groups: &spec.builder.security_group_ids,
        key_name: key_name.unwrap_or("sindri-1"),
        key_file: key_file.and_then(|path| path.to_str()).unwrap_or("key"),
        endpoint: None,
        boot: Duration::from_secs(900),
    };
    let mut texts = BTreeSet::new();
    collect(&variables(&values, &all()).values(), &mut texts);
    texts
}

fn collect(value: &Value, texts: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            texts.insert(text.replace("{{`{{`}}", "{{"));
        }
        Value::Array(all) => all.iter().for_each(|one| collect(one, texts)),
        Value::Object(all) => all.values().for_each(|one| collect(one, texts)),
        _ => {}
    }
}

/// A new attribute has to be in the list, or comes to Packer as it is.
#[test]
fn which_text_comes_to_packer() {
    for (path, spec) in with_text("the text") {
        let comes = given(&spec).contains("the text");
        assert_eq!(comes, !NOT_FOR_PACKER.contains(&path.as_str()), "{path}");
    }
}

proptest! {
    /// Each value is in its file as it was given, and Packer expands none.
    #[test]
    fn hostile_values_stay_values(text: String, dense in "[{}`$%\"'\\\\\n,#/*a]{1,24}") {
        for text in [text, dense] {
            let read = files(&text);
            let plain_of = |value: &Value| value.as_str().unwrap().replace("{{`{{`}}", "{{");
            for name in ["instance_type", "subnet_id", "instance_profile", "bastion_host", "bastion_username", "bastion_key_file", "ssh_key_file"] {
                prop_assert_eq!(plain_of(&read[name]), text.clone());
            }
            for (path, spec) in with_text(&text) {
                let comes = NOT_FOR_PACKER.contains(&path.as_str()) || given(&spec).contains(&text);
                prop_assert!(comes, "{path}: {text:?} in {:?}", given(&spec));
            }
            let tags = read["tags"].as_object().unwrap();
            let told = tags.iter().next().map(|(key, value)| (key.as_str(), value.as_str().unwrap()));
            prop_assert_eq!(told, (!text.contains("{{")).then_some((text.as_str(), text.as_str())));
        }
    }
}
