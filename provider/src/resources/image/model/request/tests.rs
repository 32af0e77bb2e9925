//! Which attributes mean what.

use std::collections::BTreeSet;

use tfplugin::{Kind, Model};

use super::*;
use crate::backends::aws::model::{AwsImageModel, CONTENT as AWS_CONTENT};
use crate::backends::template::model::{CONTENT as PACKER_CONTENT, PackerImageModel};

/// All attributes that a user may set are in a list, or among those that are in none for a reason. Not in both.
fn each_is_placed<M: Model>(listed: &[&str], others: &[&str]) {
    let settable = M::attributes().into_iter().filter(|it| it.kind != Kind::Computed);
    let settable: BTreeSet<String> = settable.map(|it| it.name.to_string()).collect();
    let placed = listed.iter().chain(others).map(|name| (*name).to_owned());
    assert_eq!(placed.clone().collect::<BTreeSet<_>>(), settable);
    assert_eq!(placed.count(), settable.len(), "one is in both");
}

/// Whoever adds an attribute says whether it changes what is built.
#[test]
fn each_attribute_is_part_of_the_key_or_changes_in_place() {
    let managed = [
        "existing_image_id",
        "description",
        "cache",
        "max_age",
        "tags",
        "channels",
        "retain_on_destroy",
        "on_error",
        "timeouts",
    ];
    // By lists of their own; by its version.
    let elsewhere = ["qemu", "aws", "packer", "environment_wo"];
    each_is_placed::<ImageModel>(CONTENT, &[&managed[..], &elsewhere].concat());
    let way_of_building = ["variables_wo", "on_error", "parallel_builds", "force", "debug"];
    each_is_placed::<PackerImageModel>(PACKER_CONTENT, &way_of_building);
    let in_place_or_way_of_building = [
        "instance_type",
        "vpc_id",
        "subnet_id",
        "security_group_ids",
        "allowed_cidrs",
        "iam_instance_profile",
        "associate_public_address",
        "spot",
        "ssh_username",
        "ssh_interface",
        "ssh_host",
        "ssh_port",
        "ssh_keypair_name",
        "ssh_private_key_path",
        "ssh_bastion_host",
        "ssh_bastion_port",
        "ssh_bastion_username",
        "ssh_bastion_private_key_path",
        "ami_regions",
        "share",
        "deprecate_after",
    ];
    each_is_placed::<AwsImageModel>(AWS_CONTENT, &in_place_or_way_of_building);
}

/// And whether it fits an image that is there already, and one of a template.
#[test]
fn each_attribute_fits_or_is_refused() {
    let always = ["cache", "retain_on_destroy", "qemu", "aws", "packer", "on_error", "timeouts"];
    let existing = [&always[..], &["existing_image_id"]].concat();
    each_is_placed::<ImageModel>(NOT_FOR_EXISTING, &existing);
    let refused: Vec<&str> = NOT_FOR_TEMPLATES.iter().map(|(name, _)| *name).collect();
    each_is_placed::<ImageModel>(&refused, &[&always[..], &["name_prefix", "max_age", "triggers"]].concat());
}
