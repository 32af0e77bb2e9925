//! The QEMU program for an architecture, and what is to be known of it before a guest can start.

use std::path::PathBuf;

use super::{Accelerator, AcceleratorChoice, Firmware, accelerator, firmware, program};
use crate::backends::qemu::Arch;

/// A way to run guests of one architecture on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emulator {
    /// The architecture of its guests.
    pub arch: Arch,
    /// `qemu-system-…`.
    pub program: PathBuf,
    /// What runs the processors.
    pub accelerator: Accelerator,
    /// UEFI, where it is installed.
    pub firmware: Option<Firmware>,
    /// The option that makes QEMU give up root, when we are root.
    pub run_as: Option<[String; 2]>,
}

/// What this host lacks.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// QEMU for the architecture is not installed.
    #[error("{program} is not installed or not in PATH; {hint}")]
    NoEmulator {
        /// The program's name.
        program: &'static str,
        /// What to do.
        hint: String,
        /// Whether the architecture is another one than this host's.
        foreign: bool,
    },
}

/// Who QEMU becomes when we are root. It has opened all its files by then, so they stay root's own.
const USER: &str = "nobody";

impl Emulator {
    /// Where the program is, which is looked for and not started.
    ///
    /// # Errors
    /// When QEMU for the architecture is not installed.
    pub fn program(arch: Arch) -> Result<PathBuf, HostError> {
        let (name, hint) = names(arch);
        let missing = || HostError::NoEmulator {
            program: name,
            hint: what_to_do(hint, arch, Arch::host()),
            foreign: Arch::host() != Some(arch),
        };
        program::find(name).ok_or_else(missing)
    }

    /// Looks on this host.
    ///
    /// # Errors
    /// When QEMU for the architecture is not installed. Missing firmware is no error: a guest with its own
    /// kernel needs none.
    pub fn find(arch: Arch, choice: AcceleratorChoice) -> Result<Self, HostError> {
        let program = Self::program(arch)?;
        let run_as = rustix::process::geteuid().is_root().then(|| {
            let version = program::version(&program, "--version");
            run_as(version.as_deref().and_then(program::major_minor))
        });
        Ok(Self { arch, program, accelerator: accelerator(choice, arch), firmware: firmware(arch), run_as })
    }
}

/// Who has never said for which architecture may have meant this computer's own.
fn what_to_do(install: &str, arch: Arch, host: Option<Arch>) -> String {
    match host.filter(|host| *host != arch) {
        Some(host) => {
            let own = host.name();
            format!(
                "{install}, or set `arch = \"{own}\"`, as this computer is, in the image and in the machine"
            )
        }
        None => install.to_owned(),
    }
}

/// `-runas` is deprecated since QEMU 9.1, which brought `-run-with user=`.
fn run_as(version: Option<(u32, u32)>) -> [String; 2] {
    if version.is_some_and(|version| version >= (9, 1)) {
        ["-run-with".into(), format!("user={USER}")]
    } else {
        ["-runas".into(), USER.into()]
    }
}

/// The program's name and what to install for it.
pub(super) fn names(arch: Arch) -> (&'static str, &'static str) {
    match arch {
        Arch::X86_64 => ("qemu-system-x86_64", "install qemu-system-x86"),
        Arch::Arm64 => ("qemu-system-aarch64", "install qemu-system-arm"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_computers_own_architecture_is_offered_where_another_one_is_missing() {
        for (arch, host, offered) in [
            (Arch::X86_64, Some(Arch::X86_64), None),
            (Arch::X86_64, Some(Arch::Arm64), Some("`arch = \"arm64\"`")),
            (Arch::Arm64, Some(Arch::X86_64), Some("`arch = \"x86_64\"`")),
            (Arch::X86_64, None, None),
        ] {
            let told = what_to_do("install it", arch, host);
            assert!(told.starts_with("install it"), "{told}");
            assert_eq!(told.contains("arch = "), offered.is_some(), "{told}");
            assert!(offered.is_none_or(|offered| told.contains(offered)), "{told}");
        }
    }

    #[test]
    fn gives_up_root_by_the_option_that_the_version_has() {
        for (version, expected) in [
            (Some((7, 2)), ["-runas", "nobody"]),
            (Some((9, 0)), ["-runas", "nobody"]),
            (Some((9, 1)), ["-run-with", "user=nobody"]),
            (Some((10, 0)), ["-run-with", "user=nobody"]),
            (None, ["-runas", "nobody"]),
        ] {
            assert_eq!(run_as(version), expected);
        }
    }
}
