//! Machines as a person is told of them, and the end of one that a person names.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::files::Folder;
use super::status::{forwards, running};
use super::{Record, VmError, change};
use crate::backends::qemu::Local;
use crate::domain::BackendError;

impl Local {
    /// The machines that there are, a line each.
    pub async fn machines(&self) -> Vec<(PathBuf, String)> {
        let mut told = Vec::new();
        for folder in Folder::all(&self.store.vms()) {
            told.push((folder.dir().to_owned(), about(&folder).await));
        }
        told
    }

    /// Ends a machine and removes it, whether a state has it or not: somebody has named it. Tells what it was; `dry` does
    /// nothing else.
    ///
    /// # Errors
    /// When there is no such machine, somebody works on it, or something of it stays.
    pub async fn remove_machine(
        &self,
        id: &str,
        dry: bool,
        cancel: &CancellationToken,
    ) -> Result<String, BackendError> {
        let folder = Folder::of(&self.store.vms(), id)?;
        let operation = format!("removing machine {id}");
        let failed = |error: VmError| error.into_backend(&operation);
        // One that is being made is about to get a state.
        if folder.try_claim().map_err(failed)?.is_none() {
            let why = "somebody works on it: let that finish, and see whether it is still to be removed";
            return Err(BackendError::failed(operation, why));
        }
        let was = about(&folder).await;
        if !dry {
            change::destroy(&folder, cancel).await.map_err(failed)?;
        }
        Ok(was)
    }
}

/// What there is to know of a machine before one decides about it.
async fn about(folder: &Folder) -> String {
    let record = match folder.read() {
        Ok(record) => record,
        Err(VmError::NotFound { .. }) => {
            let dir = folder.dir().display();
            return format!("{dir}, which has no record of a machine: it is being restored, or of no use");
        }
        Err(error) => return format!("machine {}, which cannot be read: {error}", folder.id()),
    };
    let state = match (record.known, running(folder, &record).await) {
        (false, _) => "being made",
        (true, Some(_)) => "running",
        (true, None) => "stopped",
    };
    let ports =
        forwards(&record).iter().filter_map(|it| it.host).map(|port| port.to_string()).collect::<Vec<_>>();
    let Record { name, id, image_id, created_at, .. } = &record;
    let made =
        created_at.map(|at| at.format(", made on %Y-%m-%d at %H:%M UTC").to_string()).unwrap_or_default();
    format!(
        "machine {name:?} ({id}), {state}, from image {image_id}{made}, ports of 127.0.0.1: {}",
        ports.join(", ")
    )
}
