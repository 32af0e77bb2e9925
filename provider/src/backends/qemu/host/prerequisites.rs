//! What the local backend needs on this host, each thing with its state and a hint.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Refusal, accelerator, emulator, firmware, namespaces, program};
use crate::backends::qemu::Arch;
use crate::domain::prerequisite::{Prerequisite, State};

/// Room below which a build is likely to fail, in GiB.
const ROOM_GB: u64 = 4;

/// What this room does not know of itself.
#[derive(Debug)]
pub struct Looked<'a> {
    /// Where images and machines are to be kept; it need not exist yet.
    pub data_dir: &'a Path,
    /// Where bootstrapped systems and builds' trees are to lie; it need not exist yet.
    pub cache_dir: &'a Path,
    /// What of a build was tried and refused.
    pub refused: Option<Refusal>,
    /// By what packages are verified.
    pub keyrings: Vec<Keyring>,
}

/// The keys of a distribution's archive.
#[derive(Debug)]
pub struct Keyring {
    /// Whose they are.
    pub distribution: &'static str,
    /// The package that they are in.
    pub package: &'static str,
    /// Where they are, if they are here.
    pub file: Option<PathBuf>,
}

/// Looks at this host.
pub fn prerequisites(looked: Looked<'_>) -> Vec<Prerequisite> {
    let mut found: Vec<Prerequisite> = Vec::new();
    for arch in [Arch::X86_64, Arch::Arm64] {
        let native = Arch::host() == Some(arch);
        let (name, hint) = emulator::names(arch);
        found.push(tool(name, "--version", hint, native));
        found.push(firmware_for(arch, native));
    }
    found.push(tool("qemu-img", "--version", "install qemu-utils", true));
    found.push(tool("mmdebstrap", "--version", "install mmdebstrap", true));
    found.push(versioned("apt-helper", program::apt_helper(), "--version", "install apt", true));
    found.push(archive_keys(&looked.keyrings));
    found.push(tool("mke2fs", "-V", "install e2fsprogs", true));
    found.push(user_namespaces(looked.refused));
    found.push(kvm());
    found.extend(disks(looked.data_dir, looked.cache_dir));
    found
}

fn tool(name: &str, flag: &str, hint: &str, required: bool) -> Prerequisite {
    versioned(name, program::find(name), flag, hint, required)
}

fn versioned(name: &str, found: Option<PathBuf>, flag: &str, hint: &str, required: bool) -> Prerequisite {
    let (version, state, hint) = match found {
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

/// Those of one distribution are enough: of whose packages images are made.
fn archive_keys(keyrings: &[Keyring]) -> Prerequisite {
    let here = keyrings.iter().filter_map(|keyring| keyring.file.as_ref());
    let here: Vec<String> = here.map(|file| file.display().to_string()).collect();
    let state = if here.is_empty() { State::Missing } else { State::Ok };
    let missing = keyrings.iter().filter(|keyring| keyring.file.is_none());
    let missing = missing.map(|it| format!("for images of {} install {}", it.distribution, it.package));
    let hint = here.into_iter().chain(missing).collect::<Vec<_>>().join("; ");
    Prerequisite { name: "archive keys".into(), version: None, state, hint, required: true }
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

/// A row for each disk.
fn disks(data_dir: &Path, cache_dir: &Path) -> Vec<Prerequisite> {
    let device = |dir| std::fs::metadata(existing(dir)).map(|meta| meta.dev()).ok();
    let mut found = vec![disk("free disk", data_dir)];
    if device(data_dir) != device(cache_dir) {
        found.push(disk("free disk (cache)", cache_dir));
    }
    found
}

/// The folder, or that in which it will be.
fn existing(dir: &Path) -> &Path {
    dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"))
}

fn disk(name: &str, dir: &Path) -> Prerequisite {
    let existing = existing(dir);
    let (state, hint) = match rustix::fs::statvfs(existing) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize) / (1 << 30);
            let text = format!("{free} GiB free below {}", existing.display());
            if free < ROOM_GB {
                (State::Unusable, format!("{text}; a build needs about {ROOM_GB} GiB there"))
            } else {
                (State::Ok, text)
            }
        }
        Err(error) => (State::Unusable, format!("{}: {error}", existing.display())),
    };
    Prerequisite { name: name.to_owned(), version: None, state, hint, required: true }
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
    fn apts_downloader_is_in_no_path_and_told_with_its_version() {
        let apt = versioned("apt-helper", program::apt_helper(), "--version", "install apt", true);
        assert_eq!(apt.state == State::Ok, apt.version.is_some(), "{apt:?}");
        assert_eq!(apt.state == State::Missing, apt.hint == "install apt", "{apt:?}");
    }

    #[test]
    fn the_keys_of_one_archive_are_enough() {
        let keyrings = |debian: Option<&str>, ubuntu: Option<&str>| {
            [("Debian", "debian-keys", debian), ("Ubuntu", "ubuntu-keys", ubuntu)].map(|it| Keyring {
                distribution: it.0,
                package: it.1,
                file: it.2.map(PathBuf::from),
            })
        };
        for (debian, ubuntu, state, hint) in [
            (Some("/d"), Some("/u"), State::Ok, "/d; /u"),
            (Some("/d"), None, State::Ok, "/d; for images of Ubuntu install ubuntu-keys"),
            (None, Some("/u"), State::Ok, "/u; for images of Debian install debian-keys"),
            (
                None,
                None,
                State::Missing,
                "for images of Debian install debian-keys; for images of Ubuntu install ubuntu-keys",
            ),
        ] {
            let found = archive_keys(&keyrings(debian, ubuntu));
            assert_eq!((found.state, found.hint.as_str()), (state, hint));
        }
    }

    #[test]
    fn room_is_measured_where_the_folders_will_be_and_once_a_disk() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("not/yet/there");
        let named = |data: &Path, cache: &Path| -> Vec<String> {
            disks(data, cache).into_iter().map(|row| format!("{}: {}", row.name, row.hint)).collect()
        };
        let here = dir.path().display().to_string();
        let [one] = &named(&deep, dir.path())[..] else { panic!("one disk, one row") };
        assert!(one.starts_with("free disk: ") && one.contains(&here), "{one}");
        // Where there is no room for anything.
        let [one, other] = &named(&deep, Path::new("/proc/not/there"))[..] else {
            panic!("two disks, two rows")
        };
        assert!(one.contains(&here), "{one}");
        assert!(other.starts_with("free disk (cache): 0 GiB free below /proc; "), "{other}");
    }
}
