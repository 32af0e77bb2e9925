//! The template for Packer's qemu builder and its values. Pure: touches nothing.

use std::path::Path;

use serde::Serialize;

use crate::packer::{Form, PackerError, Plugins, Variables, Version, render};
use crate::process::Command;
use crate::provision::parts::{self, Kind, PROVISIONERS, Part};

const TEMPLATE: &str = include_str!("../../../../../../templates/packer/qemu.pkr.hcl.tera");

/// The plugin that the template requires where Packer has none in itself, pinned; its checksum is verified by
/// `packer init`.
pub(super) const PLUGIN: &str = "1.1.3";
/// What is accepted of plugins that the user brings along.
const OWN_PLUGIN: &str = ">= 1.0.0, < 2.0.0";

/// Names in the folder in which Packer and its guest run.
pub(super) const BASE: &str = "base.img";
/// The folder of what Packer makes.
pub(super) const OUTPUT: &str = "output";
/// The disk that it makes.
pub(super) const DISK: &str = "disk.raw";

#[derive(Serialize)]
struct Structure {
    plugin: Option<&'static str>,
    parts: Vec<Kind>,
}

/// The template for these parts, in the forms that this version may take. `own_plugins` tells that the user says where
/// plugins are.
///
/// # Errors
/// When the template itself is wrong.
pub(super) fn forms(version: Version, own_plugins: bool, parts: &[Part]) -> Result<Vec<Form>, PackerError> {
    let form = |plugins: &Plugins| {
        let hcl = hcl(*plugins, own_plugins, parts)?;
        Ok(Form { hcl, plugins: *plugins, refused: &["Unknown source type", "The source qemu is unknown"] })
    };
    Plugins::to_try(version).iter().map(form).collect()
}

fn hcl(plugins: Plugins, own_plugins: bool, parts: &[Part]) -> Result<String, PackerError> {
    let plugin = match (plugins, own_plugins) {
        (Plugins::Bundled, _) => None,
        (Plugins::Required, true) => Some(OWN_PLUGIN),
        (Plugins::Required, false) => Some(PLUGIN),
    };
    render(TEMPLATE, &[PROVISIONERS], &Structure { plugin, parts: parts::kinds(parts) })
}

/// The values.
pub(super) struct Values<'a> {
    /// QEMU with all its arguments.
    pub(super) qemu: &'a Command,
    /// Packer's name of the accelerator.
    pub(super) accelerator: &'a str,
    /// The disk's size in bytes.
    pub(super) size: u64,
    /// The host's port that leads to the guest's SSH server.
    pub(super) port: u16,
    /// The key to it, relative to where Packer runs.
    pub(super) key: &'a Path,
    /// How long the boot may take, in seconds.
    pub(super) boot_seconds: u64,
    /// What has the guest switch itself off.
    pub(super) leave: &'a str,
    /// How long that may take, in seconds.
    pub(super) leave_seconds: u64,
}

/// The variables' values. None when an argument of QEMU is not UTF-8.
pub(super) fn variables(values: &Values<'_>, parts: &[Part]) -> Option<Variables> {
    let mut variables = Variables::default();
    variables.set("base_disk", BASE);
    variables.set("disk_size", format!("{}M", values.size >> 20));
    variables.set("output_directory", OUTPUT);
    variables.set("disk_name", DISK);
    variables.set("emulator", values.qemu.program.to_str()?);
    variables.set("accelerator", values.accelerator);
    variables.set("qemuargs", qemuargs(values.qemu)?);
    variables.set("ssh_port", values.port);
    variables.set("ssh_key", values.key.to_str()?);
    variables.set("boot_timeout", format!("{}s", values.boot_seconds));
    variables.set("leave_command", values.leave);
    variables.set("leave_timeout", format!("{}s", values.leave_seconds));
    parts::declare(&mut variables, parts, "root");
    Some(variables)
}

/// The arguments in pairs, as Packer takes them: options, each with its value if it has one.
fn qemuargs(qemu: &Command) -> Option<Vec<Vec<String>>> {
    let mut pairs: Vec<Vec<String>> = Vec::new();
    for arg in &qemu.args {
        let arg = arg.to_str()?.to_owned();
        match pairs.last_mut() {
            Some(pair) if pair.len() == 1 && !arg.starts_with('-') => pair.push(arg),
            _ => pairs.push(vec![arg]),
        }
    }
    Some(pairs)
}

#[cfg(test)]
mod tests;
