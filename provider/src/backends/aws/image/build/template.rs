//! The template for Packer's amazon-ebs builder and its values. Pure: touches nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_ec2::types::{EbsBlockDevice, Image as Ami, VolumeType};
use serde::Serialize;
use serde_json::{Value, json};

use crate::backends::aws::image::{AwsImageSpec, Interface};
use crate::backends::aws::vm::launch;
use crate::packer::{Form, PackerError, Plugins, Variables, Version, render};
use crate::provision::parts::{self, Kind, PROVISIONERS, Part};

const TEMPLATE: &str = include_str!("../../../../../../templates/packer/aws.pkr.hcl.tera");

/// The first Packer whose amazon-ebs builder has all options that the template cannot do without.
pub(super) const NEEDED: Version = Version::new(1, 6, 6);
/// The first that is asked whether it has `metadata_options`.
const METADATA: Version = Version::new(1, 7, 0);
/// The plugin that the template requires where Packer has none in itself, pinned; its checksum is verified by
/// `packer init`.
pub(super) const PLUGIN: &str = "1.8.2";
/// What is accepted of plugins that the user brings along.
const OWN_PLUGIN: &str = ">= 1.2.0, < 2.0.0";
/// The root's device where the source image does not say.
const ROOT: &str = "/dev/sda1";
/// What EBS gives every gp3 volume; the oldest Packer wants it said.
const GP3: (u32, u32) = (3000, 125);
/// How long the builder may be silent before Packer connects anew, as after a restart. Through a bastion Packer knows no such
/// thing: with it, it never gets to the login.
const SILENCE: &str = "60s";
/// What Packer says when it has no such builder, or no such option.
const REFUSED: &[&str] = &["Unknown source type", "The source amazon-ebs is unknown", "metadata_options"];

#[derive(Serialize)]
struct Structure {
    plugin: Option<&'static str>,
    metadata: bool,
    spot: bool,
    /// The places of volumes beside the root.
    others: Vec<usize>,
    parts: Vec<Kind>,
}

/// The template for these parts, in the forms that this version may take. `own_plugins` tells that the user says where
/// plugins are; `spot`, that the builder runs on spare capacity; `others`, how many volumes the source image has beside its root.
///
/// # Errors
/// When the template itself is wrong.
pub(super) fn forms(
    version: Version,
    own_plugins: bool,
    spot: bool,
    others: usize,
    parts: &[Part],
) -> Result<Vec<Form>, PackerError> {
    let mut forms = Vec::new();
    for plugins in Plugins::to_try(version) {
        let plugin = match (plugins, own_plugins) {
            (Plugins::Bundled, _) => None,
            (Plugins::Required, true) => Some(OWN_PLUGIN),
            (Plugins::Required, false) => Some(PLUGIN),
        };
        let with_metadata: &[bool] = match plugins {
            Plugins::Bundled if version < METADATA => &[false],
            Plugins::Bundled => &[true, false],
            Plugins::Required => &[true],
        };
        for metadata in with_metadata {
            let (others, parts) = ((0..others).collect(), parts::kinds(parts));
            let structure = Structure { plugin, metadata: *metadata, spot, others, parts };
            let hcl = render(TEMPLATE, &[PROVISIONERS], &structure)?;
            forms.push(Form { hcl, plugins: *plugins, refused: REFUSED });
        }
    }
    Ok(forms)
}

/// Whether a form says whom the builder gives metadata to.
pub(super) fn asks_for_tokens(form: &Form) -> bool {
    form.hcl.contains("metadata_options")
}

/// What the values are made of.
pub(super) struct Values<'a> {
    pub(super) spec: &'a AwsImageSpec,
    pub(super) name: &'a str,
    pub(super) base: &'a Ami,
    /// Of all that Packer makes.
    pub(super) tags: &'a BTreeMap<String, String>,
    /// The builder's security groups.
    pub(super) groups: &'a [String],
    pub(super) key_name: &'a str,
    pub(super) key_file: &'a str,
    pub(super) endpoint: Option<&'a str>,
    /// How long the builder may take to its login.
    pub(super) boot: Duration,
}

/// The variables' values. Null is for Packer what is not set.
pub(super) fn variables(values: &Values<'_>, parts: &[Part]) -> Variables {
    let Values { spec, base, .. } = values;
    let (builder, login) = (&spec.builder, &spec.builder.login);
    let bastion = login.bastion.as_ref();
    let mut variables = Variables::default();
    for (name, value) in [
        ("region", json!(spec.region)),
        ("endpoint", json!(values.endpoint)),
        ("image_name", json!(values.name)),
        ("source_image", json!(base.image_id())),
        ("instance_type", json!(builder.instance_type)),
        ("spot_price", json!(builder.spot.then_some("auto"))),
        ("vpc_id", json!(builder.vpc_id)),
        ("subnet_id", json!(builder.subnet_id)),
        ("security_group_ids", json!(values.groups)),
        ("instance_profile", json!(builder.iam_instance_profile)),
        ("public_address", json!(builder.associate_public_address)),
        ("http_tokens", json!(if spec.imdsv2_required { "required" } else { "optional" })),
        ("volume", volume(spec, base.root_device_name().unwrap_or(ROOT))),
        ("tags", tags(values.tags)),
        ("ssh_username", json!(login.username)),
        ("ssh_interface", json!(interface(login.interface))),
        ("ssh_host", json!(login.host)),
        ("ssh_port", json!(login.port.unwrap_or(22))),
        ("ssh_keypair_name", json!(values.key_name)),
        ("ssh_key_file", json!(values.key_file)),
        ("ssh_timeout", json!(format!("{}s", values.boot.as_secs()))),
        ("ssh_silence", json!(bastion.is_none().then_some(SILENCE))),
        ("bastion_host", json!(bastion.map(|it| &it.host))),
        ("bastion_port", json!(bastion.map(|it| it.port.unwrap_or(22)))),
        ("bastion_username", json!(bastion.map(|it| &it.username))),
        ("bastion_key_file", json!(bastion.and_then(|it| it.private_key_path.as_ref()))),
        ("bastion_agent", json!(bastion.map(|it| it.private_key_path.is_none()))),
    ] {
        variables.set(name, value);
    }
    let others = others(spec, base);
    if !others.is_empty() {
        variables.set("other_volumes", json!(others));
    }
    parts::declare(&mut variables, parts, &login.username);
    variables
}

/// Packer expands tags, and their keys more than once: those that it would change are put on the image afterwards.
fn tags(tags: &BTreeMap<String, String>) -> Value {
    let is_plain = |(key, value): &(&String, &String)| !key.contains("{{") && !value.contains("{{");
    Value::Object(tags.iter().filter(is_plain).map(|(key, value)| (key.clone(), json!(value))).collect())
}

/// The volumes that a source image has beside its root: as they are, but encrypted as the root is, and gone with the builder.
pub(super) fn others(spec: &AwsImageSpec, base: &Ami) -> Vec<Value> {
    let root = base.root_device_name().unwrap_or(ROOT);
    let all = base.block_device_mappings().iter();
    let others = all.filter_map(|one| Some((one.device_name()?, one.ebs()?))).filter(|(it, _)| *it != root);
    let volume = |(device, ebs): (&str, &EbsBlockDevice)| {
        let like = launch::like(ebs).build();
        json!({
            "device": device,
            "size": like.volume_size(),
            "type": like.volume_type().map(VolumeType::as_str),
            "iops": like.iops(),
            "throughput": like.throughput(),
            "encrypted": spec.volume.encrypted.then_some(true),
            "kms_key_id": spec.volume.kms_key_id,
        })
    };
    others.map(volume).collect()
}

fn volume(spec: &AwsImageSpec, device: &str) -> Value {
    let volume = &spec.volume;
    let (iops, throughput) = match volume.volume_type.as_str() {
        "gp3" => (volume.iops.or(Some(GP3.0)), volume.throughput.or(Some(GP3.1))),
        _ => (volume.iops, volume.throughput),
    };
    json!({
        "device": device,
        "size": volume.size_gb,
        "type": volume.volume_type,
        "iops": iops,
        "throughput": throughput,
        // Unsaid, it is as in the source image; EC2 makes nothing plain that was encrypted.
        "encrypted": volume.encrypted.then_some(true),
        "kms_key_id": volume.kms_key_id,
    })
}

fn interface(interface: Interface) -> &'static str {
    match interface {
        Interface::Public => "public_ip",
        Interface::Private => "private_ip",
        Interface::SessionManager => "session_manager",
    }
}

#[cfg(test)]
mod tests;
