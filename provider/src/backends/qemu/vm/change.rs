//! Changes a machine in place, and removes it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::create::{check_size, private_key, run};
use super::files::{DISK, Folder};
use super::status::{forwards, look, running};
use super::{QemuVmSpec, Record, VmError, power};
use crate::backends::qemu::Local;
use crate::backends::qemu::guest::{self, Forward};
use crate::domain::vm_spec::PowerState;
use crate::domain::{Vm, VmRequest};
use crate::process::Command;

/// How long a guest has to switch itself off before it is destroyed.
const GOODBYE: Duration = Duration::from_secs(20);

/// Brings a machine to what is asked for. What QEMU only takes up at its start restarts a machine that runs.
pub(super) async fn change(
    local: &Local,
    folder: &Folder,
    request: &VmRequest,
    shape: &QemuVmSpec,
    cancel: &CancellationToken,
) -> Result<Vm, VmError> {
    let _claim = folder.claim(cancel).await?;
    let old = folder.read()?;
    let mut new = Record {
        cpus: shape.cpus,
        memory_mb: shape.memory_mb,
        ports: shape.ports.clone(),
        private_key: private_key(folder, &request.spec),
        tags: retagged(&old, request),
        inputs: request.inputs.clone(),
        ..old.clone()
    };
    let grows = grows(&old, shape);
    let mut guest = running(folder, &old).await;
    // Whatever would be refused is refused while the machine still runs.
    if let Some(size) = grows {
        check_size(local, folder, DISK, size, cancel).await?;
    }
    if request.spec.power_state == PowerState::Running {
        let fresh: Vec<_> = new_forwards(&old, &new).collect();
        if let Err(error) = guest::check_ports(&fresh) {
            return Err(VmError::starting(error, &new, folder).await);
        }
    }
    let reshaped = (old.cpus, old.memory_mb, &old.ports) != (new.cpus, new.memory_mb, &new.ports);
    if let Some(running) =
        guest.take_if(|_| request.spec.power_state == PowerState::Stopped || reshaped || grows.is_some())
    {
        power::stop(running, cancel).await?;
    }
    if let Some(size) = grows {
        let command = Command::new("qemu-img").cwd(folder.dir()).args(["resize", "-q", "-f", "qcow2", DISK]);
        run(local, &command.arg(format!("{size}G")), "grow the machine's disk", cancel).await?;
    }
    folder.write(&new)?;
    if guest.is_none() && request.spec.power_state == PowerState::Running {
        power::start(local, folder, &mut new, &request.spec, cancel).await?;
    }
    Ok(look(folder, &new).await)
}

/// Tags that nobody manages stay.
fn retagged(old: &Record, request: &VmRequest) -> BTreeMap<String, String> {
    let mut tags = old.tags.clone();
    tags.retain(|key, _| !request.managed_tags.contains(key));
    tags.extend(request.spec.tags.clone());
    tags
}

/// The forwards from ports that the machine, which may run, does not hold itself.
fn new_forwards(old: &Record, new: &Record) -> impl Iterator<Item = Forward> {
    let before = forwards(old);
    let held =
        move |port: &Forward| before.iter().any(|it| (it.protocol, it.host) == (port.protocol, port.host));
    forwards(new).into_iter().filter(move |forward| !held(forward))
}

/// The disk's new size, when the configuration asks for another one than before.
fn grows(old: &Record, shape: &QemuVmSpec) -> Option<u32> {
    let before = old.inputs.pointer("/qemu/disk_size_gb").and_then(serde_json::Value::as_u64);
    shape.disk_size_gb.filter(|size| before != Some(u64::from(*size)))
}

/// Says goodbye, pulls the plug if need be, and removes the folder. What is gone already is fine.
pub(super) async fn destroy(folder: &Folder, cancel: &CancellationToken) -> Result<(), VmError> {
    let _claim = match folder.claim(cancel).await {
        Err(VmError::NotFound { .. }) => None,
        other => Some(other?),
    };
    if let Ok(record) = folder.read()
        && let Some(guest) = running(folder, &record).await
    {
        tokio::select! {
            stopped = guest.shutdown(GOODBYE) => stopped?,
            () = cancel.cancelled() => return Err(VmError::Cancelled),
        }
    }
    // Whatever the record says: nothing of this id may stay behind.
    if let Ok(id) = Uuid::parse_str(folder.id()) {
        guest::kill(folder.dir(), id).await?;
    }
    folder.remove()
}

impl Local {
    /// Removes machines that a killed create left and no state knows, and what killed destroys left. Returns their folders. A
    /// folder that is being restored, and has no record yet, stays.
    pub(in crate::backends::qemu) async fn sweep_machines(&self, dry: bool) -> Vec<std::path::PathBuf> {
        let vms = self.store.vms();
        let mut swept = Folder::half_removed(&vms);
        if !dry {
            Folder::remove_unfinished(&vms);
            swept.retain(|dir| Folder::finish_removal(dir));
        }
        for folder in Folder::all(&vms) {
            let Ok(Some(_claim)) = folder.try_claim() else { continue };
            let unknown = match folder.read() {
                Ok(record) => !record.known,
                Err(VmError::NotFound { .. }) => folder.is_bare(),
                Err(_) => false,
            };
            if !unknown {
                continue;
            }
            let id = Uuid::parse_str(folder.id()).unwrap_or_default();
            if dry || (guest::kill(folder.dir(), id).await.is_ok() && folder.remove().is_ok()) {
                swept.push(folder.dir().to_owned());
            }
        }
        swept
    }
}
