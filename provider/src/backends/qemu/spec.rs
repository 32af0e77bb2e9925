//! What the local backend needs to know beside the common specs.

use std::path::PathBuf;

pub use crate::domain::Arch;

/// The part of an image's specification that only this backend understands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuImageSpec {
    /// What the image starts from.
    pub base: Base,
    /// The guest's architecture.
    pub arch: Arch,
    /// The disk's size as the guest sees it, in GiB.
    pub disk_size_gb: u32,
    /// Memory of the guest while building and verifying, in MiB.
    pub memory_mb: u32,
    /// Processors of the guest while building and verifying.
    pub cpus: u32,
    /// The format of the finished disk.
    pub format: DiskFormat,
    /// Whether the finished disk is compressed (qcow2 and vmdk only).
    pub compress: bool,
    /// What the steps can reach.
    pub network: Network,
    /// Whether steps run in a booted guest, over SSH, rather than in the file tree.
    pub boot: bool,
    /// Who boots that guest and runs the steps in it.
    pub engine: Engine,
}

/// Who runs the steps of a booted image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// This provider.
    Native,
    /// HashiCorp Packer, by its qemu builder.
    Packer,
}

/// What an image starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// A distribution's packages.
    Bootstrap(Bootstrap),
    /// A disk image.
    Image {
        /// Where it is.
        source: ImageSource,
        /// What its content must hash to, 64 lower-case hex digits. Always there for a URL.
        sha256: Option<String>,
    },
}

/// A system made from a distribution's packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// A Debian or Ubuntu suite: `bookworm`, `noble`.
    pub suite: String,
    /// The mirror's URL; the host's own APT sources when none is given.
    pub mirror: Option<String>,
    /// The URL of the security archive beside `mirror`, where it is another one, as Debian's is.
    pub security_mirror: Option<String>,
    /// A day or moment of the distribution's snapshot archive, `20260101T000000Z`. Needs `mirror`, which
    /// then names the archive.
    pub snapshot: Option<String>,
    /// Packages beside the base system.
    pub packages: Vec<String>,
}

/// Where a base image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// A file on this host.
    Path(PathBuf),
    /// An `http` or `https` URL.
    Url(String),
}

/// A disk image's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    /// QEMU's own.
    Qcow2,
    /// Plain bytes, sparse.
    Raw,
    /// VMware's (stream-optimised when compressed).
    Vmdk,
}

/// What the guest can reach while it is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// All that the host can reach.
    User,
    /// The package mirrors of the build.
    Mirror,
    /// Nothing.
    None,
}

impl Network {
    /// The one of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::User, Self::Mirror, Self::None].into_iter().find(|network| network.name() == name)
    }

    /// Its name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Mirror => "mirror",
            Self::None => "none",
        }
    }
}

impl DiskFormat {
    /// The format of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Qcow2, Self::Raw, Self::Vmdk].into_iter().find(|format| format.name() == name)
    }

    /// QEMU's name of the format, also the file's extension.
    pub fn name(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
            Self::Vmdk => "vmdk",
        }
    }
}
