//! What Sindri knows of distributions: suites, package names, architectures. No addresses.

use std::path::{Path, PathBuf};

use crate::backends::qemu::Arch;
use crate::backends::qemu::host::Keyring;

/// A family of suites with packages of the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Distribution {
    /// Debian.
    Debian,
    /// Ubuntu.
    Ubuntu,
}

const DEBIAN: &[&str] = &["bookworm", "trixie", "forky", "duke", "sid", "stable", "testing", "unstable"];
const UBUNTU: &[&str] = &["noble", "plucky", "questing", "resolute"];
/// Suites whose systemd-boot does not follow kernel upgrades.
const TOO_OLD: &[&str] = &[
    "stretch",
    "buster",
    "bullseye",
    "oldoldstable",
    "trusty",
    "xenial",
    "bionic",
    "focal",
    "jammy",
    "kinetic",
];
/// Suites that move by themselves and have neither updates nor security archives.
const ROLLING: &[&str] = &["sid", "unstable"];

/// In every image, whatever its distribution: a machine that boots by UEFI, asks for an address, is reached by SSH
/// and configured by cloud-init.
const PACKAGES: &[&str] = &[
    "apt",
    "ca-certificates",
    "cloud-guest-utils",
    "cloud-init",
    "dbus",
    "e2fsprogs",
    "fdisk",
    "initramfs-tools",
    "iproute2",
    "iputils-ping",
    "kmod",
    "less",
    "libpam-systemd",
    "netbase",
    "openssh-server",
    "procps",
    "sudo",
    "systemd-boot",
    "systemd-boot-efi",
    "systemd-resolved",
    "systemd-sysv",
    "tzdata",
    "udev",
    "zstd",
];

impl Distribution {
    /// The distribution that a suite belongs to.
    pub(super) fn of_suite(suite: &str) -> Option<Self> {
        [(Self::Debian, DEBIAN), (Self::Ubuntu, UBUNTU)]
            .into_iter()
            .find_map(|(distribution, suites)| suites.contains(&suite).then_some(distribution))
    }

    /// Whether the suite is known, and known not to work.
    pub(super) fn too_old(suite: &str) -> bool {
        TOO_OLD.contains(&suite)
    }

    /// The distribution of an APT source with this suite, `bookworm-security` or `stable/updates` included, old
    /// suites too.
    pub(super) fn of_source(suite: &str) -> Option<Self> {
        let name = suite.split(['-', '/']).next().unwrap_or(suite);
        let old_debian = ["stretch", "buster", "bullseye", "oldstable", "oldoldstable"];
        Self::of_suite(name).or_else(|| match name {
            _ if old_debian.contains(&name) => Some(Self::Debian),
            _ if TOO_OLD.contains(&name) => Some(Self::Ubuntu),
            _ => None,
        })
    }

    /// The distribution that calls itself so (`Origin` of a release file).
    pub(super) fn of_origin(origin: &str) -> Option<Self> {
        [Self::Debian, Self::Ubuntu].into_iter().find(|distribution| distribution.name() == origin)
    }

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Debian => "Debian",
            Self::Ubuntu => "Ubuntu",
        }
    }

    /// The components that hold [`Self::packages`].
    pub(super) fn components(self) -> &'static str {
        match self {
            Self::Debian => "main",
            Self::Ubuntu => "main universe",
        }
    }

    /// Whether the suite has `-updates` and `-security` beside it.
    pub(super) fn has_updates(suite: &str) -> bool {
        !ROLLING.contains(&suite)
    }

    /// The packages of the base system, the kernel last.
    pub(super) fn packages(self, arch: Arch) -> Vec<&'static str> {
        let kernel = match (self, arch) {
            (Self::Debian, Arch::X86_64) => "linux-image-cloud-amd64",
            (Self::Debian, Arch::Arm64) => "linux-image-cloud-arm64",
            (Self::Ubuntu, _) => "linux-image-virtual",
        };
        PACKAGES.iter().copied().chain([kernel]).collect()
    }

    /// The package with the archive's keys, and the file that holds them here.
    pub(super) fn keyring(self) -> (&'static str, Option<PathBuf>) {
        let (package, files): (_, &[&str]) = match self {
            Self::Debian => (
                "debian-archive-keyring",
                &[
                    "/usr/share/keyrings/debian-archive-keyring.gpg",
                    "/usr/share/keyrings/debian-archive-keyring.pgp",
                ],
            ),
            Self::Ubuntu => ("ubuntu-keyring", &["/usr/share/keyrings/ubuntu-archive-keyring.gpg"]),
        };
        (package, files.iter().map(Path::new).find(|file| file.exists()).map(Path::to_owned))
    }
}

/// The archives' keys, here or not.
pub(in crate::backends::qemu) fn keyrings() -> Vec<Keyring> {
    let of = |distribution: Distribution| {
        let (package, file) = distribution.keyring();
        Keyring { distribution: distribution.name(), package, file }
    };
    [Distribution::Debian, Distribution::Ubuntu].map(of).into()
}

/// What depends on the processor: names in packages, in the ESP and on the kernel's command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Platform {
    /// Debian's name of the architecture.
    pub(super) deb_arch: &'static str,
    /// What UEFI looks for in `/EFI/BOOT`.
    pub(super) efi_name: &'static str,
    /// What systemd calls its loader.
    pub(super) efi_loader: &'static str,
    /// Of the kernel's command line: the serial console, and what the kernel need not check.
    pub(super) cmdline: &'static str,
    /// The GPT type of a root partition, from the Discoverable Partitions Specification.
    pub(super) root_type: uuid::Uuid,
}

impl Platform {
    /// For a guest of this architecture.
    pub(super) fn of(arch: Arch) -> Self {
        match arch {
            Arch::X86_64 => Self {
                deb_arch: "amd64",
                efi_name: "BOOTX64.EFI",
                efi_loader: "systemd-bootx64.efi",
                // On a busy computer without KVM the timer's ticks come late, and the kernel would stop for that.
                cmdline: "console=ttyS0 no_timer_check",
                root_type: uuid::Uuid::from_u128(0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709),
            },
            Arch::Arm64 => Self {
                deb_arch: "arm64",
                efi_name: "BOOTAA64.EFI",
                efi_loader: "systemd-bootaa64.efi",
                cmdline: "console=ttyAMA0",
                root_type: uuid::Uuid::from_u128(0xb921b045_1df0_41c3_af44_4c6f280d3fae),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quickstart_knows_the_same_suites() {
        let script = include_str!("../../../../../scripts/quickstart.sh");
        let theirs =
            script.lines().find_map(|line| line.strip_prefix("suites=\"")?.strip_suffix('"')).unwrap();
        let names = DEBIAN.iter().chain(UBUNTU);
        let ours: Vec<&str> =
            names.copied().filter(|name| !["stable", "testing", "unstable"].contains(name)).collect();
        assert_eq!(theirs.split(' ').collect::<Vec<_>>(), ours);
    }

    #[test]
    fn suites_and_sources_belong_to_their_distribution() {
        let cases = [
            ("bookworm", Some(Distribution::Debian)),
            ("bookworm-security", Some(Distribution::Debian)),
            ("stable-updates", Some(Distribution::Debian)),
            ("bullseye/updates", Some(Distribution::Debian)),
            ("noble-security", Some(Distribution::Ubuntu)),
            ("jammy", Some(Distribution::Ubuntu)),
            ("cloud-sdk-bookworm", None),
            ("nodistro", None),
            ("", None),
        ];
        for (suite, expected) in cases {
            assert_eq!(Distribution::of_source(suite), expected, "{suite}");
        }
        assert_eq!(Distribution::of_suite("jammy"), None);
        assert!(Distribution::too_old("jammy"));
    }
}
