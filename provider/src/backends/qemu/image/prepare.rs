//! What a build's guest needs before it is started: a key, a seed where one is read, and the machine itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::booted::{guest_error, ssh_error};
use super::mirrors::Mirrors;
use super::{Build, BuildError};
use crate::backends::qemu::guest::{Disk, DiskAccess, Forward, GuestError, GuestSpec, Lifetime, Seed};
use crate::backends::qemu::host::Emulator;
use crate::backends::qemu::{Base, DiskFormat, QemuImageSpec};
use crate::domain::OnError;
use crate::process::Secret;
use crate::ssh;

/// The seed's disk, in the guest's folder.
pub(super) const SEED: &str = "seed.raw";

/// What is booted.
pub(super) struct Start<'a> {
    /// The guest's own folder; made.
    pub(super) dir: PathBuf,
    /// The disk, which the guest changes.
    pub(super) disk: &'a Path,
    /// Its format.
    pub(super) format: DiskFormat,
    /// What a seeded guest's first boot does.
    pub(super) first_boot: FirstBoot,
    /// What it reaches, where that is not all or nothing, as far as it is known.
    pub(super) mirrors: Option<Arc<Mirrors>>,
}

/// How much of its first boot cloud-init does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstBoot {
    /// Only what lets us in, see `await-cloud-init.sh`: a build's boot must not become part of the image (package
    /// sources, locales), nor race with its steps. A machine from the image does the rest.
    Brief,
    /// All of it, as a machine from the image would.
    Whole,
}

/// Leaves out the stages in which packages and settings change
/// (<https://cloudinit.readthedocs.io/en/latest/explanation/boot.html>).
const BRIEF: &str = "#cloud-config\n{\"cloud_config_modules\":[],\"cloud_final_modules\":[]}\n";

/// Whether cloud-init is told about us too: foreign images may have a systemd older than 252 and know no other way in.
/// Our own take the key from the machine, and need not wait for cloud-init.
pub(super) fn is_seeded(qemu: &QemuImageSpec) -> bool {
    matches!(qemu.base, Base::Image { .. })
}

/// A guest that is ready to be started, with our way in.
pub(super) struct Prepared {
    /// The machine.
    pub(super) spec: GuestSpec,
    /// What runs it.
    pub(super) emulator: Emulator,
    /// The private key, in the guest's folder.
    pub(super) key_file: PathBuf,
    /// The public one.
    pub(super) public_key: String,
}

/// Makes a key and, where it is needed, a seed, both in the guest's folder; root may then log in with that key.
///
/// # Errors
/// When they cannot be made, or there is no QEMU.
pub(super) fn prepare(build: &Build<'_>, start: &Start<'_>) -> Result<Prepared, BuildError> {
    let key_file = start.dir.join("ssh_key");
    let public_key = ssh::generate(&key_file, "sindri-build").map_err(ssh_error("make a key"))?;
    let seed = start.dir.join(SEED);
    if is_seeded(build.qemu) {
        write_seed(build, &public_key, start.first_boot, &seed)?;
    }
    let (disk, format) = (start.disk, start.format);
    let guest = Machine { id: build.id, disk, format, seed: &seed, public_key: &public_key };
    let spec = guest.spec(build.qemu, build.spec.on_error);
    let emulator = Emulator::find(build.qemu.arch, build.host.accelerator).map_err(GuestError::from);
    let emulator = emulator.map_err(guest_error("find QEMU"))?;
    Ok(Prepared { spec, emulator, key_file, public_key })
}

/// A build's guest, before any of its files is there.
pub(super) struct Machine<'a> {
    pub(super) id: Uuid,
    pub(super) disk: &'a Path,
    pub(super) format: DiskFormat,
    pub(super) seed: &'a Path,
    pub(super) public_key: &'a str,
}

impl Machine<'_> {
    /// As QEMU gets it.
    pub(super) fn spec(&self, qemu: &QemuImageSpec, on_error: OnError) -> GuestSpec {
        let disk = |file: &Path, format, access| Disk { file: file.to_owned(), format, access };
        let mut disks = vec![disk(self.disk, self.format, DiskAccess::Fast)];
        if is_seeded(qemu) {
            disks.push(disk(self.seed, DiskFormat::Raw, DiskAccess::ReadOnly));
        }
        let spec = GuestSpec {
            id: self.id,
            name: format!("sindri-build-{}", self.id),
            cpus: qemu.cpus,
            memory_mb: qemu.memory_mb,
            disks,
            network: qemu.network,
            forwards: vec![Forward::SSH],
            credentials: std::collections::BTreeMap::new(),
            lifetime: if on_error == OnError::Keep { Lifetime::Daemon } else { Lifetime::WithProvider },
        };
        spec.admit("root", self.public_key)
    }
}

fn write_seed(
    build: &Build<'_>,
    public_key: &str,
    first_boot: FirstBoot,
    file: &Path,
) -> Result<(), BuildError> {
    let seed = Seed {
        instance_id: format!("sindri-build-{}", build.id),
        hostname: "localhost".to_owned(),
        username: "root".to_owned(),
        public_key: public_key.to_owned(),
        user_data: (first_boot == FirstBoot::Brief).then(|| Secret::new(BRIEF)),
        network_config: None,
    };
    seed.write(file).map_err(BuildError::io("write", file))
}
