//! UEFI firmware without Secure Boot: the code, and the template of its variables.
//!
//! QEMU's own descriptors come first (`docs/interop/firmware.json` of QEMU describes them), then the places
//! where distributions are known to put the files.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::backends::qemu::Arch;

/// A firmware's two files, both raw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    /// What runs; shared and never written.
    pub code: PathBuf,
    /// What each machine's own variables begin as.
    pub vars: PathBuf,
}

const DESCRIPTORS: [&str; 3] =
    ["/etc/qemu/firmware", "/usr/local/share/qemu/firmware", "/usr/share/qemu/firmware"];

/// Debian and Ubuntu, Fedora, Arch, openSUSE, Homebrew.
const KNOWN_X86_64: &[(&str, &str)] = &[
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/edk2-ovmf/x64/OVMF_CODE.fd", "/usr/share/edk2-ovmf/x64/OVMF_VARS.fd"),
    ("/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"),
    ("/opt/homebrew/share/qemu/edk2-x86_64-code.fd", "/opt/homebrew/share/qemu/edk2-i386-vars.fd"),
];

const KNOWN_ARM64: &[(&str, &str)] = &[
    ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
    ("/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw", "/usr/share/edk2/aarch64/vars-template-pflash.raw"),
    ("/usr/share/edk2/aarch64/QEMU_CODE.fd", "/usr/share/edk2/aarch64/QEMU_VARS.fd"),
    ("/usr/share/qemu/aavmf-aarch64-code.bin", "/usr/share/qemu/aavmf-aarch64-vars.bin"),
    ("/opt/homebrew/share/qemu/edk2-aarch64-code.fd", "/opt/homebrew/share/qemu/edk2-arm-vars.fd"),
];

/// The firmware for guests of this architecture, if both of its files are on this host.
pub fn firmware(arch: Arch) -> Option<Firmware> {
    described(arch).into_iter().chain(known(arch)).find(|it| it.code.is_file() && it.vars.is_file())
}

fn known(arch: Arch) -> impl Iterator<Item = Firmware> {
    let files = match arch {
        Arch::X86_64 => KNOWN_X86_64,
        Arch::Arm64 => KNOWN_ARM64,
    };
    files.iter().map(|(code, vars)| Firmware { code: code.into(), vars: vars.into() })
}

/// What the descriptors offer, in their order: by file name, whatever the folder.
fn described(arch: Arch) -> Vec<Firmware> {
    let mut files: Vec<PathBuf> = DESCRIPTORS
        .iter()
        .filter_map(|dir| std::fs::read_dir(dir).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    files.iter().filter_map(|file| parse(&std::fs::read(file).ok()?, arch)).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Descriptor {
    interface_types: Vec<String>,
    mapping: Mapping,
    targets: Vec<Target>,
    features: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mapping {
    device: String,
    #[serde(default)]
    mode: Option<String>,
    executable: Option<Image>,
    nvram_template: Option<Image>,
}

#[derive(Deserialize)]
struct Image {
    filename: PathBuf,
    format: String,
}

#[derive(Deserialize)]
struct Target {
    architecture: String,
    machines: Vec<String>,
}

/// The firmware that a descriptor describes, if it suits our machines.
fn parse(json: &[u8], arch: Arch) -> Option<Firmware> {
    let descriptor: Descriptor = serde_json::from_slice(json).ok()?;
    let (name, machine) = match arch {
        Arch::X86_64 => ("x86_64", "pc-q35-"),
        Arch::Arm64 => ("aarch64", "virt-"),
    };
    let suits = |target: &Target| {
        target.architecture == name && target.machines.iter().any(|it| it.starts_with(machine))
    };
    let features = &descriptor.features;
    let special = |name: &str| ["secure-boot", "enrolled-keys", "requires-smm", "amd-sev-es"].contains(&name);
    let mapping = descriptor.mapping;
    let raw = |image: &Image| image.format == "raw" && Path::new(&image.filename).is_absolute();
    let (code, vars) = (mapping.executable.filter(raw)?, mapping.nvram_template.filter(raw)?);
    let fits = descriptor.interface_types.iter().any(|it| it == "uefi")
        && mapping.device == "flash"
        && mapping.mode.is_none_or(|mode| mode == "split")
        && descriptor.targets.iter().any(suits)
        && !features.iter().any(|it| special(it));
    fits.then_some(Firmware { code: code.filename, vars: vars.filename })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn descriptor(arch: &str, machine: &str, features: &str, format: &str) -> String {
        format!(
            r#"{{"interface-types": ["uefi"], "targets": [{{"architecture": "{arch}", "machines": ["{machine}"]}}],
            "mapping": {{"device": "flash", "executable": {{"filename": "/f/CODE.fd", "format": "{format}"}},
                         "nvram-template": {{"filename": "/f/VARS.fd", "format": "raw"}}}},
            "features": [{features}], "tags": []}}"#
        )
    }

    #[test]
    fn takes_plain_raw_uefi_for_our_machines_only() {
        for (arch, machine, features, format, wanted, fits) in [
            ("x86_64", "pc-q35-*", r#""acpi-s3", "amd-sev""#, "raw", Arch::X86_64, true),
            ("x86_64", "pc-i440fx-*", "", "raw", Arch::X86_64, false),
            ("x86_64", "pc-q35-*", r#""secure-boot""#, "raw", Arch::X86_64, false),
            ("x86_64", "pc-q35-*", r#""requires-smm""#, "raw", Arch::X86_64, false),
            ("x86_64", "pc-q35-*", "", "qcow2", Arch::X86_64, false),
            ("x86_64", "pc-q35-*", "", "raw", Arch::Arm64, false),
            ("aarch64", "virt-*", "", "raw", Arch::Arm64, true),
        ] {
            let found = parse(descriptor(arch, machine, features, format).as_bytes(), wanted);
            assert_eq!(found.is_some(), fits, "{arch} {machine} {features} {format}");
        }
    }

    proptest! {
        #[test]
        fn no_descriptor_makes_us_panic(bytes: Vec<u8>) {
            prop_assert_eq!(parse(&bytes, Arch::X86_64), None);
        }
    }
}
