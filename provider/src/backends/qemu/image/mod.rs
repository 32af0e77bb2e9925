//! Builds images on this computer: packages or a base image, the steps, a disk.
//!
//! Works in the build's own folder and in the cache; where a finished image is kept is not its business.

mod apt_login;
mod apt_options;
mod apt_sources;
mod area;
mod attribute;
mod base_image;
mod booted;
mod bootstrap;
mod convert;
mod disk;
mod distribution;
mod download;
mod error;
mod ext4;
mod gate;
mod guest_build;
mod layer;
mod layer_id;
mod mirrors;
mod newer;
mod packer_engine;
mod prepare;
mod preview;
mod problems;
mod prune;
mod reach;
mod release;
mod said;
mod tree;
mod trial;
mod verify;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(super) use distribution::keyrings;
pub use error::BuildError;
pub use layer::MAX_AGE;
pub use newer::Bases;
pub use packer_engine::NEEDED as PACKER_NEEDED;
pub(super) use preview::template;
#[cfg(test)]
pub(in crate::backends::qemu) use problems::tests;
pub(crate) use problems::{build_problems, doubts, problems};
pub(super) use prune::prune;
pub use prune::{PrunedTree, PrunedTrees};
pub(super) use trial::refused;

use self::area::Area;
use self::disk::{E2fsprogs, Layout};
use self::distribution::Platform;
use self::layer::Layer;
use self::layer_id::derived_uuid;
use self::mirrors::{Mirrors, Reached};
use self::tree::Tree;
use super::guest;
use super::host::AcceleratorChoice;
use super::{Base, Bootstrap, DiskFormat, Engine, ImageSource, Network, QemuImageSpec};
use crate::domain::ImageSpec;
use crate::packer;
use crate::process::{BuildLog, Command, Limits, ProcessError, Runner, leftover, private};
use crate::provision;

/// What a build uses of this computer.
#[derive(Debug, Clone)]
pub struct Host {
    /// Runs programs.
    pub runner: Runner,
    /// Layers and downloads, shared by all builds; made when missing.
    pub cache_dir: PathBuf,
    /// What may run guests' processors.
    pub accelerator: AcceleratorChoice,
    /// The host's APT configuration: `/etc/apt`.
    pub etc_apt: PathBuf,
    /// Which Packer is run, for images of that engine.
    pub packer: packer::Settings,
}

/// Where a part of a build works.
#[derive(Clone, Copy)]
struct Here<'a> {
    host: &'a Host,
    log: &'a BuildLog,
    cancel: &'a CancellationToken,
}

impl Here<'_> {
    /// Runs a program that says nothing but what it does.
    async fn run(self, command: &Command) -> Result<(), ProcessError> {
        let limits = Limits::cancelled_by(self.cancel);
        self.host.runner.check(command, Some(self.log), &limits).await.map(drop)
    }
}

/// An image to be built.
pub struct Build<'a> {
    /// The build's own id.
    pub id: Uuid,
    /// What goes in.
    pub spec: &'a ImageSpec,
    /// What this backend alone understands of it.
    pub qemu: &'a QemuImageSpec,
    /// This computer.
    pub host: &'a Host,
    /// Where the finished disk is put; made, with 0700, when missing.
    pub work_dir: &'a Path,
    /// What happens is written here.
    pub log: &'a BuildLog,
    /// Ends the build.
    pub cancel: &'a CancellationToken,
}

/// The folders of guests in a build's work folder.
const BUILD_GUEST: &str = "guest";
const CHECK_GUEST: &str = "check";

impl Build<'_> {
    fn here(&self) -> Here<'_> {
        Here { host: self.host, log: self.log, cancel: self.cancel }
    }

    fn guest_dir(&self) -> PathBuf {
        self.work_dir.join(BUILD_GUEST)
    }
}

/// A finished image, in the build's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// The disk.
    pub disk: PathBuf,
    /// Its format.
    pub format: DiskFormat,
    /// Of the file: 64 lower-case hex digits.
    pub sha256: String,
    /// The file's size, in bytes.
    pub size_bytes: u64,
    /// The disk's size as a guest sees it, in bytes.
    pub virtual_size: u64,
    /// What the base turned out to be.
    pub resolved_base: String,
}

/// Builds an image. On failure and when cancelled, everything that the build made is removed again, but for a guest
/// that the user wants to keep ([`BuildError::Kept`]), which stays in the work folder.
///
/// # Errors
/// Whatever stops the build, in words for the user.
pub async fn build(build: &Build<'_>) -> Result<BuiltImage, BuildError> {
    let area = Area::open(&build.host.cache_dir)?;
    tree::remove_abandoned(build.host, &area, build.log).await;
    download::forget_old(&build.host.cache_dir);
    booted::make_dir(build.work_dir)?;
    let made = match &build.qemu.base {
        Base::Bootstrap(bootstrap) => from_bootstrap(build, &area, bootstrap).await,
        Base::Image { source, sha256 } => from_image(build, source, sha256.as_deref()).await,
    };
    let built = match made {
        Ok(made) => finish(build, made).await,
        Err(error) => Err(error),
    };
    // Nobody may be there any more to hear of a claim, which would keep the image for ever.
    let built = if build.cancel.is_cancelled() { built.and(Err(BuildError::Cancelled)) } else { built };
    if built.as_ref().is_err_and(|error| !matches!(error, BuildError::Kept { .. })) {
        let _ = fs::remove_dir_all(build.work_dir);
    }
    built
}

/// Removes what a killed provider, or a failed build with `on_error = "keep"`, left: a running guest, its work
/// folder, its tree in the cache. Nothing there is success.
///
/// # Errors
/// When something stays.
pub async fn remove_partial(host: &Host, id: Uuid, work_dir: &Path) -> Result<(), BuildError> {
    for name in [BUILD_GUEST, CHECK_GUEST] {
        let dir = work_dir.join(name);
        if dir.exists() {
            guest::kill(&dir, id).await.map_err(booted::guest_error("stop the guest of an earlier build"))?;
        }
    }
    leftover::end_those_of(work_dir);
    private::remove_dir_all(work_dir).map_err(BuildError::io("remove", work_dir))?;
    tree::remove_left(host, &Area::open(&host.cache_dir)?, id).await
}

/// A raw disk with everything in it.
struct Made {
    raw: PathBuf,
    size: u64,
    resolved_base: String,
    /// What its steps reached, where that is not all or nothing.
    mirrors: Option<Arc<Mirrors>>,
}

async fn from_bootstrap(build: &Build<'_>, area: &Area, bootstrap: &Bootstrap) -> Result<Made, BuildError> {
    let Build { host, qemu, log, .. } = build;
    let layer = layer::obtain(build.here(), area, bootstrap, qemu.arch).await?;
    let reached = match qemu.network {
        Network::User => Reached::All,
        Network::Mirror => Reached::Mirrors(layer.mirrors(bootstrap, log)?),
        Network::None => Reached::Nothing,
    };
    booted::make_dir(&build.guest_dir())?;
    let tree = match Tree::create(build.here(), area, &layer, build.id, reached.clone()) {
        Ok(tree) => tree,
        Err(error) => {
            // The first error is what matters.
            let _ = tree::remove_left(host, area, build.id).await;
            return Err(error);
        }
    };
    let raw = build.guest_dir().join("disk.raw");
    let made = async {
        let (packed, size) = from_tree(build, &layer, &tree).await?;
        guest_build::move_disk(build, &packed, &raw).await?;
        Ok::<_, BuildError>(size)
    }
    .await;
    let removed = tree.remove().await;
    let size = made?;
    removed?;
    let resolved_base = layer.about.resolved_base.clone();
    // Everything is on the disk: who makes the layer anew need not wait for the guest.
    drop(layer);
    let mut mirrors = reached.mirrors();
    if qemu.boot {
        mirrors = provision_booted(build, &raw, mirrors).await?;
    }
    Ok(Made { raw, size, resolved_base, mirrors })
}

/// Runs the steps, unless they wait for a guest, and makes the disk.
async fn from_tree(build: &Build<'_>, layer: &Layer, tree: &Tree<'_>) -> Result<(PathBuf, u64), BuildError> {
    if !build.qemu.boot {
        tree.prepare().await?;
        for task in provision::tasks(build.spec).iter().chain(&provision::cleanup(build.spec.security)) {
            tree.run(task).await?;
        }
    }
    build.log.step("Making the disk");
    let layout = layout(build.qemu, layer);
    let packed = tree.pack(layout.size, &layout.mke2fs(e2fsprogs(build).await?), !build.qemu.boot).await?;
    let (plan, disk, esp) = (layout.clone(), packed.disk.clone(), packed.esp);
    let completed = tokio::task::spawn_blocking(move || plan.complete(&disk, &esp)).await;
    completed.map_err(|error| BuildError::Invalid(format!("the disk's task failed: {error}")))??;
    Ok((packed.disk, layout.size))
}

async fn from_image(
    build: &Build<'_>,
    source: &ImageSource,
    sha256: Option<&str>,
) -> Result<Made, BuildError> {
    let qemu = build.qemu;
    let raw = build.guest_dir().join("disk.raw");
    booted::make_dir(&build.guest_dir())?;
    let size = u64::from(qemu.disk_size_gb) << 30;
    let base = base_image::bring(build.here(), source, sha256, &raw, size).await?;
    let mut mirrors = None;
    if qemu.boot {
        mirrors = provision_booted(build, &raw, None).await?;
    } else if !build.spec.steps.is_empty() {
        let why = "the steps of a base image need `boot = true`";
        return Err(BuildError::Invalid(why.to_owned()));
    }
    Ok(Made { raw, size: base.size, resolved_base: base.resolved, mirrors })
}

/// Runs the steps in a guest with the raw disk, by whichever engine is asked for. Returns the mirrors that they reached, if
/// nothing else.
async fn provision_booted(
    build: &Build<'_>,
    raw: &Path,
    mirrors: Option<Arc<Mirrors>>,
) -> Result<Option<Arc<Mirrors>>, BuildError> {
    match build.qemu.engine {
        Engine::Native => guest_build::provision(build, build.guest_dir(), raw, mirrors).await,
        Engine::Packer => packer_engine::provision(build, &build.guest_dir(), raw).await.map(|()| None),
    }
}

/// The disk in its format, checked.
async fn finish(build: &Build<'_>, made: Made) -> Result<BuiltImage, BuildError> {
    let Build { qemu, log, cancel, .. } = build;
    let disk = build.work_dir.join(format!("disk.{}", qemu.format.name()));
    convert::convert(build.here(), &made.raw, &disk, qemu.format, qemu.compress).await?;
    let guest = build.guest_dir();
    fs::remove_dir_all(&guest).map_err(BuildError::io("remove", &guest))?;
    log.step("Computing the checksum");
    let sha256 = convert::sha256(&disk, cancel).await?;
    let size_bytes = fs::metadata(&disk).map_err(BuildError::io("read", &disk))?.len();
    verify::verify(build, &disk, made.mirrors).await?;
    log.step("The image is done");
    Ok(BuiltImage {
        disk,
        format: qemu.format,
        sha256,
        size_bytes,
        virtual_size: made.size,
        resolved_base: made.resolved_base,
    })
}

fn layout(qemu: &QemuImageSpec, layer: &Layer) -> Layout {
    let seed = layer.partitions.root.to_string();
    Layout {
        size: u64::from(qemu.disk_size_gb) << 30,
        disk_id: derived_uuid(&seed, "disk"),
        esp_partuuid: layer.partitions.esp,
        root_partuuid: layer.partitions.root,
        root_type: Platform::of(qemu.arch).root_type,
        fs_uuid: derived_uuid(&seed, "root file system"),
        epoch: layer.about.epoch,
    }
}

async fn e2fsprogs(build: &Build<'_>) -> Result<E2fsprogs, BuildError> {
    let command = Command::new("mke2fs").arg("-V");
    let limits = Limits::cancelled_by(build.cancel);
    let output = build.host.runner.check(&command, None, &limits).await;
    output.map(|output| E2fsprogs::parse(&output)).map_err(BuildError::tool("find the version of mke2fs"))
}
