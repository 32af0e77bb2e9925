//! Launches a machine: a folder, an overlay on the image, a seed, a key, QEMU.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use chrono::Utc;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::files::{DISK, Folder, SEED};
use super::status::{forwards, view};
use super::{Port, QemuVmSpec, Record, VmError, power};
use crate::backends::qemu::guest::{self, Forward, Seed};
use crate::backends::qemu::{DiskFormat, Local};
use crate::domain::image::DiskFile;
use crate::domain::vm_spec::{PowerState, VmSpec};
use crate::domain::{BackendError, Exists, Vm, VmRequest};
use crate::process::{Command, Limits};
use crate::ssh;

pub(super) async fn create(
    local: &Local,
    request: &VmRequest,
    shape: &QemuVmSpec,
    exists: &mut Exists<'_>,
    cancel: &CancellationToken,
) -> Result<Vm, BackendError> {
    let spec = &request.spec;
    let operation = format!("launching machine {}", spec.name);
    let image = image(local, &request.image_id, &operation, cancel).await?;
    let id = Uuid::new_v4();
    let folder = Folder::of(&local.store.vms(), &id.to_string())?;
    local.sweep_machines(false).await;
    let launched = async {
        let _claim = folder.make()?;
        let begun = record(id, request, shape, &image, &folder)
            .and_then(|record| folder.write(&record).map(|()| record));
        let mut record = match begun {
            Ok(record) => record,
            Err(error) => {
                // No state will know of it.
                folder.remove()?;
                return Err(error);
            }
        };
        exists(&view(&folder, &record, PowerState::Stopped));
        let launched = launch(local, &folder, &mut record, spec, shape, &image, cancel).await;
        if launched.is_err() && cancel.is_cancelled() {
            // A user who interrupts wants nothing to be left, and the host may be gone before it stores a state.
            guest::kill(folder.dir(), id).await?;
            folder.remove()?;
            return launched.map(|()| view(&folder, &record, PowerState::Stopped));
        }
        // Whatever came of it, the state has it now; only a killed provider leaves it unknown. A host that is killed before it
        // stores that leaves a machine that no sweep takes by itself: it looks like one whose state nobody has read since.
        // `sweep --dry-run` lists it, `sweep --vm` removes it, and whoever wants one of its ports is told of it.
        record.known = true;
        let written = folder.write(&record);
        launched.and(written).map(|()| view(&folder, &record, spec.power_state))
    };
    launched.await.map_err(|error: VmError| error.into_backend(&operation))
}

/// The image's disk.
async fn image(
    local: &Local,
    id: &str,
    operation: &str,
    cancel: &CancellationToken,
) -> Result<DiskFile, BackendError> {
    let refused = |problem: String| BackendError::Refused { attribute: "image_id".into(), problem };
    let wanted = id.to_owned();
    let got = local.in_store(operation, cancel, move |store| store.get(&wanted));
    let Some(got) = cancel.run_until_cancelled(got).await else {
        return Err(BackendError::Cancelled { operation: operation.to_owned() });
    };
    let image = match got {
        Err(error) if error.is_not_found() => {
            let root = local.store.root().display();
            return Err(refused(format!(
                "there is no image {id} in {root}; take the id from a sindri_image"
            )));
        }
        other => other?,
    };
    match image.disk {
        Some(disk) if disk.intact => Ok(disk),
        _ => Err(refused(format!("image {id} was altered since it was built; plan again to replace it"))),
    }
}

fn record(
    id: Uuid,
    request: &VmRequest,
    shape: &QemuVmSpec,
    image: &DiskFile,
    folder: &Folder,
) -> Result<Record, VmError> {
    let spec = &request.spec;
    Ok(Record {
        id,
        name: spec.name.clone(),
        image_id: request.image_id.clone(),
        image_format: DiskFormat::parse(&image.format).unwrap_or(DiskFormat::Qcow2),
        arch: shape.arch,
        cpus: shape.cpus,
        memory_mb: shape.memory_mb,
        ports: shape.ports.clone(),
        ssh_port: free_port(folder, &shape.ports)?,
        username: spec.ssh.username.clone(),
        private_key: private_key(folder, spec),
        admit: None,
        tags: spec.tags.clone(),
        inputs: request.inputs.clone(),
        known: false,
        created_at: Some(Utc::now()),
    })
}

/// The key that logs in, if there is one on this computer: the user's own, or the one that is made for the machine.
pub(super) fn private_key(folder: &Folder, spec: &VmSpec) -> Option<PathBuf> {
    match &spec.ssh.public_key {
        Some(_) => spec.ssh.private_key_path.clone(),
        None => Some(folder.private_key()),
    }
}

/// A port for SSH that is free now, none of the user's, and of no other machine, which may stand still.
pub(super) fn free_port(folder: &Folder, ports: &BTreeMap<String, Port>) -> Result<u16, VmError> {
    let own = ports.values().map(|port| port.forward());
    let of_others = folder.others().into_iter().flat_map(|(_, record)| forwards(&record));
    let all: Vec<Forward> = std::iter::once(Forward::SSH).chain(own).chain(of_others).collect();
    let chosen = guest::choose(&all).map_err(VmError::file("find a free port for", folder.dir()))?;
    Ok(chosen[0].host.unwrap_or_default())
}

async fn launch(
    local: &Local,
    folder: &Folder,
    record: &mut Record,
    spec: &VmSpec,
    shape: &QemuVmSpec,
    image: &DiskFile,
    cancel: &CancellationToken,
) -> Result<(), VmError> {
    let backing = Folder::image(record.image_format);
    link(&image.path, &folder.dir().join(&backing))?;
    overlay(local, folder, record, shape.disk_size_gb, cancel).await?;
    record.admit = Some(seed(folder, record, spec)?);
    folder.write(record)?;
    match spec.power_state {
        PowerState::Running => power::start(local, folder, record, spec, cancel).await,
        PowerState::Stopped => Ok(()),
    }
}

/// A hard link, so that deleting the image does not break the machine; a copy where there can be none.
fn link(from: &Path, to: &Path) -> Result<(), VmError> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(_) => fs::copy(from, to).map(drop).map_err(VmError::file("copy the image to", to)),
    }
}

async fn overlay(
    local: &Local,
    folder: &Folder,
    record: &Record,
    size_gb: Option<u32>,
    cancel: &CancellationToken,
) -> Result<(), VmError> {
    let backing = Folder::image(record.image_format);
    let mut command = Command::new("qemu-img").cwd(folder.dir());
    command =
        command.args(["create", "-q", "-f", "qcow2", "-F", record.image_format.name(), "-b", &backing, DISK]);
    if let Some(size) = size_gb {
        check_size(local, folder, &backing, size, cancel).await?;
        command = command.arg(format!("{size}G"));
    }
    run(local, &command, "make the machine's disk", cancel).await.map(drop)?;
    private(&folder.dir().join(DISK))
}

/// qemu-img makes files that others may read.
fn private(path: &Path) -> Result<(), VmError> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(VmError::file("protect", path))
}

/// Fails when a disk is to be smaller than it is.
pub(super) async fn check_size(
    local: &Local,
    folder: &Folder,
    disk: &str,
    want_gb: u32,
    cancel: &CancellationToken,
) -> Result<(), VmError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Info {
        virtual_size: u64,
    }
    let command =
        Command::new("qemu-img").cwd(folder.dir()).args(["info", "--output=json", "--force-share", disk]);
    let output = run(local, &command, "look at the disk", cancel).await?;
    let have = serde_json::from_str::<Info>(&output)
        .map_err(|source| VmError::UnknownSize { path: folder.dir().join(disk), source })?
        .virtual_size;
    if u64::from(want_gb) << 30 < have {
        return Err(VmError::DiskTooSmall { have_gb: have.div_ceil(1 << 30), want_gb });
    }
    Ok(())
}

pub(super) async fn run(
    local: &Local,
    command: &Command,
    action: &'static str,
    cancel: &CancellationToken,
) -> Result<String, VmError> {
    let checked = local.runner.check(command, None, &Limits::cancelled_by(cancel)).await;
    checked.map_err(|source| match (&source, &command.cwd) {
        // qemu-img does not say so of all that it writes.
        (error, Some(dir)) if error.lacks_space(Some(dir)) => {
            VmError::NoSpace { action, dir: dir.clone(), source: rustix::io::Errno::NOSPC.into() }
        }
        _ => VmError::Tool { action, source },
    })
}

/// Writes the seed; returns the public key that it lets in.
fn seed(folder: &Folder, record: &Record, spec: &VmSpec) -> Result<String, VmError> {
    let public_key = match &spec.ssh.public_key {
        Some(key) => key.clone(),
        None => ssh::generate(&folder.private_key(), &format!("sindri {}", spec.name))?,
    };
    let seed = Seed {
        instance_id: record.id.to_string(),
        hostname: spec.name.clone(),
        username: spec.ssh.username.clone(),
        public_key: public_key.clone(),
        user_data: spec.user_data.clone(),
        network_config: None,
    };
    let path = folder.dir().join(SEED);
    seed.write(&path).map_err(VmError::file("write", &path))?;
    Ok(public_key)
}
