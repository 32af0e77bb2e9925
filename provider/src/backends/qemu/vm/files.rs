//! A machine's folder: what lies where, and who may work on it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Record, VmError};
use crate::backends::qemu::DiskFormat;
use crate::domain::BackendError;
use crate::process::lock::{self, How};
use crate::process::private;

/// What the name of a folder that nobody has claimed yet begins with.
const UNFINISHED: &str = "new-";
/// What the name of a folder begins with that is being removed: what is left of it is no machine.
const GONE: &str = "gone-";
/// Claiming a folder takes no time: an older one was left behind.
const ABANDONED: Duration = Duration::from_secs(60);

/// The overlay's file name.
pub(super) const DISK: &str = "disk.qcow2";

/// The record's file name, and how the names begin under which one is written.
const RECORD: &str = "machine.json";

/// The seed's file name.
pub(super) const SEED: &str = "seed.img";

/// A machine's folder.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    dir: PathBuf,
    id: String,
}

/// The right to change a machine, ended with this value or the process.
#[derive(Debug)]
pub(super) struct Claim {
    _dir: File,
}

impl Folder {
    /// The folder of an id from state or an import string: only a UUID becomes a path.
    pub(super) fn of(vms: &Path, id: &str) -> Result<Self, BackendError> {
        match Uuid::parse_str(id) {
            Ok(uuid) if uuid.hyphenated().to_string() == id => {
                Ok(Self { dir: vms.join(id), id: id.to_owned() })
            }
            _ => Err(BackendError::NotFound { kind: "machine", id: id.to_owned() }),
        }
    }

    /// All machines' folders.
    pub(super) fn all(vms: &Path) -> Vec<Self> {
        let names = fs::read_dir(vms)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| Self::of(vms, &name).ok()).collect()
    }

    /// Removes folders that were never claimed: they are empty, and old.
    pub(super) fn remove_unfinished(vms: &Path) {
        for entry in fs::read_dir(vms).into_iter().flatten().flatten() {
            let unfinished = entry.file_name().to_string_lossy().starts_with(UNFINISHED);
            let made = entry.metadata().and_then(|meta| meta.modified());
            let old = made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > ABANDONED));
            if unfinished && old {
                let _ = fs::remove_dir(entry.path());
            }
        }
    }

    /// Folders that a killed destroy began to remove.
    pub(super) fn half_removed(vms: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(vms).into_iter().flatten().flatten();
        let gone = entries.filter(|entry| {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_prefix(GONE));
            id.is_some_and(|id| Self::of(vms, id).is_ok())
        });
        gone.map(|entry| entry.path()).collect()
    }

    /// Removes such a folder, unless somebody is at it. Returns whether it is gone.
    pub(super) fn finish_removal(dir: &Path) -> bool {
        let Ok(claim) = File::open(dir) else { return false };
        lock::try_lock(&claim, How::Exclusive).is_ok_and(|ours| ours) && private::remove_dir_all(dir).is_ok()
    }

    /// What is written of the other machines, as far as it can be read.
    pub(super) fn others(&self) -> Vec<(Self, Record)> {
        let vms = self.dir.parent().unwrap_or(&self.dir);
        let others = Self::all(vms).into_iter().filter(|other| other.id != self.id);
        others.filter_map(|other| other.read().ok().map(|record| (other, record))).collect()
    }

    /// Whether nothing has come into it yet but, perhaps, half a record: what a create left that was killed at once. A folder
    /// that is being restored has other files before its record.
    pub(super) fn is_bare(&self) -> bool {
        let Ok(mut entries) = fs::read_dir(&self.dir) else { return false };
        entries.all(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with(RECORD)))
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Makes it, 0700, with the right to change the machine: under another name first, so that nobody takes it for
    /// one that was left behind.
    pub(super) fn make(&self) -> Result<Claim, VmError> {
        let fresh = self.dir.with_file_name(format!("{UNFINISHED}{}", self.id));
        private::create_dir(&fresh).map_err(VmError::file("make", &fresh))?;
        let dir = File::open(&fresh).map_err(VmError::file("open", &fresh))?;
        // Nobody knows of it yet.
        lock::try_lock(&dir, How::Exclusive).map_err(VmError::file("lock", &fresh))?;
        fs::rename(&fresh, &self.dir).map_err(VmError::file("make", &self.dir))?;
        Ok(Claim { _dir: dir })
    }

    /// The image's disk in the folder: a hard link, so that it outlives the image.
    pub(super) fn image(format: DiskFormat) -> String {
        format!("image.{}", format.name())
    }

    pub(super) fn private_key(&self) -> PathBuf {
        self.dir.join("id_ed25519")
    }

    pub(super) fn known_hosts(&self) -> PathBuf {
        self.dir.join("known_hosts")
    }

    fn record(&self) -> PathBuf {
        self.dir.join(RECORD)
    }

    pub(super) fn read(&self) -> Result<Record, VmError> {
        let path = self.record();
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| VmError::Corrupt {
                id: self.id.clone(),
                path,
                source,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(VmError::NotFound { id: self.id.clone() })
            }
            Err(error) => Err(VmError::file("read", &path)(error)),
        }
    }

    pub(super) fn write(&self, record: &Record) -> Result<(), VmError> {
        let path = self.record();
        let text = serde_json::to_vec_pretty(record).unwrap_or_default();
        private::write(&path, &text).map_err(VmError::file("write", &path))
    }

    /// Takes the right to change the machine; none when somebody has it.
    pub(super) fn try_claim(&self) -> Result<Option<Claim>, VmError> {
        let dir = match OpenOptions::new().read(true).open(&self.dir) {
            Ok(dir) => dir,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(VmError::NotFound { id: self.id.clone() });
            }
            Err(error) => return Err(VmError::file("open", &self.dir)(error)),
        };
        let ours = lock::try_lock(&dir, How::Exclusive).map_err(VmError::file("lock", &self.dir))?;
        Ok(ours.then_some(Claim { _dir: dir }))
    }

    /// Waits for the right to change the machine.
    pub(super) async fn claim(&self, cancel: &CancellationToken) -> Result<Claim, VmError> {
        lock::wait(&self.dir, cancel, || self.try_claim(), VmError::Busy).await
    }

    /// Removes it with all that is in it: under another name first, so that nobody takes what a killed removal leaves for a
    /// machine.
    pub(super) fn remove(&self) -> Result<(), VmError> {
        let gone = self.dir.with_file_name(format!("{GONE}{}", self.id));
        let delete = || private::remove_dir_all(&gone).map_err(VmError::file("delete", &gone));
        delete()?;
        match fs::rename(&self.dir, &gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(VmError::file("delete", &self.dir)(error)),
            Ok(()) => delete(),
        }
    }
}
