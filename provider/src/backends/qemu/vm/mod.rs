//! Machines on this computer: launched from an image of the store, each in a folder of its own under
//! `data_dir/vms`. Knows nothing of how images are built.

mod change;
mod create;
mod error;
mod files;
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
use super::guest::Protocol as GuestProtocol;
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
