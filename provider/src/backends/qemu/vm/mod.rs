//! Machines on this computer: launched from an image of the store, each in a folder of its own under
//! `data_dir/vms`. Knows nothing of how images are built.

mod change;
mod create;
mod error;
mod files;
mod list;
mod power;
mod record;
mod spec;
mod status;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub use error::VmError;
pub use record::Record;
pub use spec::{Port, QemuVmSpec};

use self::files::Folder;
use super::Local;
use super::guest::{Forward, GuestError, Protocol as GuestProtocol, check_ports};
use crate::domain::{BackendError, Exists, Vm, VmBackend, VmLauncher, VmRequest};

/// What a port speaks.
pub type Protocol = GuestProtocol;

/// Launches and changes machines of one shape.
#[derive(Debug)]
pub struct LocalLauncher {
    local: Arc<Local>,
    spec: QemuVmSpec,
}

impl Local {
    /// Who launches machines of this shape.
    pub fn launcher(self: &Arc<Self>, spec: QemuVmSpec) -> LocalLauncher {
        LocalLauncher { local: Arc::clone(self), spec }
    }

    /// Whether somebody listens on a port of this computer's loopback address.
    pub fn is_port_taken(&self, port: u16) -> bool {
        let forward = Forward { host: Some(port), ..Forward::SSH };
        matches!(check_ports(&[forward]), Err(GuestError::PortInUse { .. }))
    }
}

#[async_trait]
impl VmLauncher for LocalLauncher {
    async fn create(
        &self,
        request: &VmRequest,
        exists: &mut Exists<'_>,
        cancel: &CancellationToken,
    ) -> Result<Vm, BackendError> {
        create::create(&self.local, request, &self.spec, exists, cancel).await
    }

    async fn update(
        &self,
        id: &str,
        request: &VmRequest,
        cancel: &CancellationToken,
    ) -> Result<Vm, BackendError> {
        let folder = Folder::of(&self.local.store.vms(), id)?;
        change::change(&self.local, &folder, request, &self.spec, cancel)
            .await
            .map_err(|error| error.into_backend(&format!("changing machine {id}")))
    }
}

#[async_trait]
impl VmBackend for Local {
    async fn get(&self, id: &str) -> Result<Vm, BackendError> {
        let folder = Folder::of(&self.store.vms(), id)?;
        let record = folder.read().map_err(|error| error.into_backend(&format!("reading machine {id}")))?;
        Ok(status::look(&folder, &record).await)
    }

    async fn inputs(&self, id: &str) -> Result<Value, BackendError> {
        let folder = Folder::of(&self.store.vms(), id)?;
        let record = folder.read().map_err(|error| error.into_backend(&format!("reading machine {id}")))?;
        Ok(record.inputs)
    }

    async fn destroy(&self, id: &str, cancel: &CancellationToken) -> Result<(), BackendError> {
        let folder = Folder::of(&self.store.vms(), id)?;
        change::destroy(&folder, cancel)
            .await
            .map_err(|error| error.into_backend(&format!("destroying machine {id}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::qemu::ForeignStore;
    use crate::backends::qemu::host::AcceleratorChoice;
    use crate::backends::qemu::store::Store;
    use crate::process::Runner;

    fn local(dir: &std::path::Path) -> Local {
        Local {
            store: Store::at(dir),
            cache_dir: dir.join("cache"),
            accelerator: AcceleratorChoice::Auto,
            foreign_store: ForeignStore::Error,
            runner: Runner::new("/no/such/program"),
            packer: crate::packer::Settings::default(),
            bases: Default::default(),
        }
    }

    #[tokio::test]
    async fn a_damaged_machine_can_be_destroyed() {
        let dir = tempfile::tempdir().unwrap();
        let local = local(dir.path());
        let id = "00000000-0000-4000-8000-000000000007";
        let folder = Folder::of(&local.store.vms(), id).unwrap();
        std::fs::create_dir_all(folder.dir()).unwrap();
        for damage in ["", "{\"id\":", "null"] {
            std::fs::write(folder.dir().join("machine.json"), damage).unwrap();
            let got = VmBackend::get(&local, id).await;
            assert!(matches!(got, Err(BackendError::Damaged { .. })), "{damage}: {got:?}");
        }
        assert!(local.sweep_machines(false).await.is_empty(), "it may be a machine that somebody needs");
        VmBackend::destroy(&local, id, &CancellationToken::new()).await.unwrap();
        assert!(!folder.dir().exists());
    }

    #[tokio::test]
    async fn what_has_no_record_is_swept_when_it_never_was_a_machine() {
        let dir = tempfile::tempdir().unwrap();
        let local = local(dir.path());
        let folder = Folder::of(&local.store.vms(), "00000000-0000-4000-8000-000000000007").unwrap();
        for (files, is_swept) in [
            (&[][..], true),
            (&["machine.json.0123.new"], true),
            (&["disk.qcow2"], false),
            (&["console.log"], false),
            // As rsync names what it has not written to its end.
            (&[".disk.qcow2.Xk2l9a"], false),
            (&["id_ed25519", "image.qcow2"], false),
        ] {
            std::fs::create_dir_all(folder.dir()).unwrap();
            for file in files {
                std::fs::write(folder.dir().join(file), "").unwrap();
            }
            let swept = local.sweep_machines(true).await;
            assert_eq!(swept, local.sweep_machines(false).await, "{files:?}");
            assert_eq!((swept.len(), !folder.dir().exists()), (usize::from(is_swept), is_swept), "{files:?}");
            VmBackend::destroy(&local, folder.id(), &CancellationToken::new()).await.unwrap();
            assert!(!folder.dir().exists());
        }
    }

    #[tokio::test]
    async fn a_removal_that_was_killed_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let local = local(dir.path());
        let vms = local.store.vms();
        let folder = Folder::of(&vms, "00000000-0000-4000-8000-000000000007").unwrap();
        let gone = vms.join(format!("gone-{}", folder.id()));
        let half = || {
            std::fs::create_dir_all(&gone).unwrap();
            std::fs::write(gone.join("disk.qcow2"), "").unwrap();
        };
        half();
        let at_it = std::fs::File::open(&gone).unwrap();
        assert!(crate::process::lock::try_lock(&at_it, crate::process::lock::How::Exclusive).unwrap());
        assert!(local.sweep_machines(false).await.is_empty(), "somebody is at it");
        drop(at_it);
        assert!(VmBackend::get(&local, folder.id()).await.unwrap_err().is_not_found());
        assert_eq!(local.sweep_machines(true).await, std::slice::from_ref(&gone));
        assert_eq!(local.sweep_machines(false).await, std::slice::from_ref(&gone));
        assert!(!gone.exists());
        // The machine was restored meanwhile.
        half();
        drop(folder.make().unwrap());
        VmBackend::destroy(&local, folder.id(), &CancellationToken::new()).await.unwrap();
        assert_eq!(std::fs::read_dir(&vms).unwrap().count(), 0);
    }

    fn record(id: &str, ssh_port: u16) -> Record {
        serde_json::from_value(serde_json::json!({
            "id": id, "name": "web", "image_id": "x", "image_format": "qcow2", "arch": "x86_64", "cpus": 1,
            "memory_mb": 1024, "ports": {}, "ssh_port": ssh_port, "username": "sindri", "private_key": null,
            "admit": null, "tags": {}, "inputs": null, "known": true, "created_at": "2026-01-31T10:20:30Z",
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn machines_are_listed_and_their_ports_are_not_given_away() {
        let dir = tempfile::tempdir().unwrap();
        let local = local(dir.path());
        let (one, two) = ("00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002");
        let folder = |id| Folder::of(&local.store.vms(), id).unwrap();
        let (other, own) = (folder(one), folder(two));
        drop((other.make().unwrap(), own.make().unwrap()));
        // Of the ports that the system gives most are of another machine, which stands still.
        let of_other = (1024..=u16::MAX).filter(|port| port % 16 > 1);
        let port = |host: u16| (host.to_string(), Port { guest: 80, host, protocol: Protocol::Tcp });
        other.write(&Record { ports: of_other.map(port).collect(), ..record(one, 1) }).unwrap();
        let given = create::free_port(&own, &std::collections::BTreeMap::new()).unwrap();
        assert!(given % 16 <= 1, "{given} is of another machine");

        other.write(&record(one, 2222)).unwrap();
        let lines: Vec<String> = local.machines().await.into_iter().map(|(_, line)| line).collect();
        let stopped = format!(
            "machine \"web\" ({one}), stopped, from image x, made on 2026-01-31 at 10:20 UTC, ports of 127.0.0.1: 2222"
        );
        assert!(lines.contains(&stopped), "{lines:?}");
        assert!(lines.iter().any(|line| line.contains(two) && line.contains("no record")), "{lines:?}");
    }

    #[tokio::test]
    async fn a_machine_that_is_named_is_removed_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let local = local(dir.path());
        let ids = [1, 2, 3].map(|n| format!("00000000-0000-4000-8000-00000000000{n}"));
        let folders = ids.each_ref().map(|id| Folder::of(&local.store.vms(), id).unwrap());
        let there = || folders.each_ref().map(|folder| folder.dir().exists());
        let mut claims = folders.each_ref().map(|folder| Some(folder.make().unwrap()));
        for (folder, id) in folders.iter().zip(&ids) {
            folder.write(&record(id, 2222)).unwrap();
        }
        let remove = async |id: &str, dry| {
            let removed = local.remove_machine(id, dry, &CancellationToken::new()).await;
            removed.map_err(|error| crate::domain::causes(&error))
        };
        let busy = remove(&ids[1], false).await.unwrap_err();
        assert!(busy.contains("somebody works on it"), "{busy}");
        claims.iter_mut().for_each(|claim| drop(claim.take()));
        for wrong in ["", "web", "..", &ids[1][..35], "00000000-0000-4000-8000-000000000009"] {
            let told = remove(wrong, false).await.unwrap_err();
            assert_eq!(told, format!("there is no machine {wrong}"));
        }
        let would = remove(&ids[1], true).await.unwrap();
        assert_eq!(there(), [true, true, true], "a dry run removed something");
        assert!(would.contains(&ids[1]) && would.contains("image x") && would.contains("2222"), "{would}");
        assert_eq!(remove(&ids[1], false).await, Ok(would));
        assert_eq!(there(), [true, false, true]);
        // What cannot be read can be named, too.
        std::fs::write(folders[2].dir().join("machine.json"), "{").unwrap();
        let damaged = remove(&ids[2], false).await.unwrap();
        assert!(damaged.starts_with(&format!("machine {}, which cannot be read: ", ids[2])), "{damaged}");
        assert_eq!(there(), [true, false, false]);
    }

    /// Somebody else works on the machine without end.
    #[tokio::test]
    async fn who_works_on_a_machine_is_waited_for_until_cancelled() {
        let dir = tempfile::tempdir().unwrap();
        let local = local(dir.path());
        let folder = Folder::of(&local.store.vms(), "00000000-0000-4000-8000-000000000007").unwrap();
        let claim = folder.make().unwrap();
        let cancel = CancellationToken::new();
        let stopped = async {
            tokio::time::sleep(std::time::Duration::from_millis(150)).await;
            cancel.cancel();
        };
        let (destroyed, ()) = tokio::join!(VmBackend::destroy(&local, folder.id(), &cancel), stopped);
        let told = crate::domain::causes(&destroyed.unwrap_err());
        let holder = format!("another resource of this run holds the lock {}", folder.dir().display());
        assert!(told.contains(&holder), "{told}");
        assert!(folder.dir().exists());
        drop(claim);
        VmBackend::destroy(&local, folder.id(), &cancel).await.unwrap();
        assert!(!folder.dir().exists());
    }
}
