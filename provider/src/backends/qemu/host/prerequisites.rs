//! What the local backend needs on this host, each thing with its state and a hint.

use std::path::Path;

use super::{Refusal, accelerator, emulator, firmware, namespaces, program};
use crate::backends::qemu::Arch;
use crate::domain::prerequisite::{Prerequisite, State};

/// Room below which a build is likely to fail, in GiB.
const ROOM_GB: u64 = 4;

/// Looks at this host. `data_dir` is where images and machines are to be kept; it need not exist yet. `refused` is what
/// of a build was tried and refused.
pub fn prerequisites(data_dir: &Path, refused: Option<Refusal>) -> Vec<Prerequisite> {
    let mut found: Vec<Prerequisite> = Vec::new();
    for arch in [Arch::X86_64, Arch::Arm64] {
        let native = Arch::host() == Some(arch);
        let (name, hint) = emulator::names(arch);
        found.push(tool(name, "--version", hint, native));
        found.push(firmware_for(arch, native));
    }
    found.push(tool("qemu-img", "--version", "install qemu-utils", true));
    found.push(tool("mmdebstrap", "--version", "install mmdebstrap", true));
    found.push(tool("mke2fs", "-V", "install e2fsprogs", true));
    found.push(user_namespaces(refused));
    found.push(kvm());
    found.push(disk(data_dir));
    found
}

fn tool(name: &str, flag: &str, hint: &str, required: bool) -> Prerequisite {
    let (version, state, hint) = match program::find(name) {
        None => (None, State::Missing, hint.to_owned()),
        Some(path) => match program::version(&path, flag) {
            Some(version) => (Some(version), State::Ok, path.display().to_string()),
            None => {
                (None, State::Unusable, format!("{} {flag} tells no version; {hint} again", path.display()))
            }
        },
    };
    Prerequisite { name: name.to_owned(), version, state, hint, required }
}

fn firmware_for(arch: Arch, required: bool) -> Prerequisite {
    let (name, package) = match arch {
        Arch::X86_64 => ("UEFI firmware for x86_64", "install ovmf"),
        Arch::Arm64 => ("UEFI firmware for arm64", "install qemu-efi-aarch64"),
    };
    let (state, hint) = match firmware::firmware(arch) {
        Some(firmware) => (State::Ok, firmware.code.display().to_string()),
        None => (State::Missing, package.to_owned()),
    };
    Prerequisite { name: name.into(), version: None, state, hint, required }
}

fn user_namespaces(refused: Option<Refusal>) -> Prerequisite {
    let obstacles = namespaces::obstacles(refused);
    let (state, hint) = if obstacles.is_empty() {
        (State::Ok, "builds without a boot are isolated".to_owned())
    } else {
        (State::Unusable, obstacles.join("; "))
    };
    Prerequisite { name: "user namespaces".into(), version: None, state, hint, required: true }
}

fn kvm() -> Prerequisite {
    let (state, hint) = match accelerator::kvm() {
        Ok(()) => (State::Ok, "guests run at full speed".to_owned()),
        Err(error) => match error.kind() {
            std::io::ErrorKind::NotFound => (
                State::Missing,
                "/dev/kvm is not there: guests run by translation, several times slower".into(),
            ),
            std::io::ErrorKind::PermissionDenied => (
                State::Unusable,
                "/dev/kvm is closed to this user: join the group kvm and log in again".into(),
            ),
            _ => (State::Unusable, format!("/dev/kvm does not work ({error}): guests run by translation")),
        },
    };
    Prerequisite { name: "KVM".into(), version: None, state, hint, required: false }
}

fn disk(data_dir: &Path) -> Prerequisite {
    let existing = data_dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    let (state, hint) = match rustix::fs::statvfs(existing) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize) / (1 << 30);
            let text = format!("{free} GiB free below {}", existing.display());
            if free < ROOM_GB {
                (State::Unusable, format!("{text}; an image needs about {ROOM_GB} GiB while it is built"))
            } else {
                (State::Ok, text)
            }
        }
        Err(error) => (State::Unusable, format!("{}: {error}", existing.display())),
    };
    Prerequisite { name: "free disk".into(), version: None, state, hint, required: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_says_what_to_install() {
        let missing = tool("no-such-tool", "--version", "install nothing", true);
        assert_eq!((missing.state, missing.hint.as_str()), (State::Missing, "install nothing"));
        let sh = tool("true", "--help-me-not", "install coreutils", true);
        assert_ne!(sh.state, State::Missing);
    }

    #[test]
    fn room_is_measured_where_the_folder_will_be() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("not/yet/there");
        assert!(disk(&deep).hint.contains(&dir.path().display().to_string()));
    }
}
