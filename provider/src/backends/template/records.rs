//! What was built from templates on this computer: a file for each image, by which an identical one is found. State has the
//! same, so that an image can be read and deleted where there is no such file.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::domain::{CacheKey, Holder, Made};
use crate::process::{claims, private};

/// An image that was built from a template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The build's id, which is the image's.
    pub(super) id: Uuid,
    /// The image's name.
    pub(super) name: String,
    /// Under which it is found.
    pub(super) key: CacheKey,
    /// What was made.
    pub(super) made: Vec<Made>,
    /// When it was finished.
    pub(super) created_at: DateTime<Utc>,
    /// How long that took.
    pub(super) build_seconds: u64,
    /// The build's log.
    pub(super) log_path: PathBuf,
    /// Who claims it, those included whose claim no state knew yet: see [`Records::holders`].
    pub(super) holders: BTreeSet<Holder>,
    /// The user's configuration.
    pub(super) inputs: Value,
}

/// The folder of such files.
#[derive(Debug, Clone)]
pub(super) struct Records {
    dir: PathBuf,
}

impl Records {
    /// Below a folder. Touches nothing.
    pub(super) fn open(data_dir: &Path) -> Self {
        Self { dir: data_dir.join("templates") }
    }

    /// One image; `None` when there is no record of it here, or none that can be read.
    pub(super) fn get(&self, id: &str) -> io::Result<Option<Record>> {
        let Ok(id) = id.parse::<Uuid>() else { return Ok(None) };
        match fs::read(self.path(id)) {
            Ok(bytes) => Ok(parse(&bytes).filter(|record| record.id == id)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All images, the oldest first.
    pub(super) fn all(&self) -> io::Result<Vec<Record>> {
        let names = match fs::read_dir(&self.dir) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut all = Vec::new();
        for name in names {
            let path = name?.path();
            if path.extension().is_some_and(|it| it == "json") {
                // It may be deleted in this moment.
                all.extend(fs::read(&path).ok().and_then(|bytes| parse(&bytes)));
            }
        }
        all.sort_by_key(|record| (record.created_at, record.id));
        Ok(all)
    }

    /// Writes an image down. When this returns, it is on the disk.
    pub(super) fn put(&self, record: &Record) -> io::Result<()> {
        private::create_dir(&self.dir)?;
        private::write(&self.path(record.id), &serde_json::to_vec_pretty(record).map_err(io::Error::other)?)?;
        private::sync_dir(&self.dir)
    }

    /// Forgets an image, and what was claimed of it.
    pub(super) fn remove(&self, id: Uuid) -> io::Result<()> {
        private::remove_file(&self.path(id))?;
        private::remove_dir_all(&self.claims(id))
    }

    /// Who claims an image. A claim of a process that was killed before any state knew it is none.
    pub(super) fn holders(&self, record: &Record) -> io::Result<BTreeSet<Holder>> {
        let mut holders = record.holders.clone();
        for holder in &record.holders {
            if claims::is_abandoned(&self.claim(record.id, holder))? {
                holders.remove(holder);
            }
        }
        Ok(holders)
    }

    /// The file of a claim that no state knows yet.
    pub(super) fn claim(&self, id: Uuid, holder: &Holder) -> PathBuf {
        self.claims(id).join(holder.to_string())
    }

    /// Removes that file.
    pub(super) fn remove_claim(&self, id: Uuid, holder: &Holder) -> io::Result<()> {
        private::remove_file(&self.claim(id, holder))?;
        // Fails while there are others, and then is not wanted.
        let _ = fs::remove_dir(self.claims(id));
        Ok(())
    }

    fn claims(&self, id: Uuid) -> PathBuf {
        self.dir.join(format!("{id}.claims"))
    }

    /// The lock of those who change records.
    pub(super) fn lock_path(&self) -> PathBuf {
        self.dir.join("lock")
    }

    fn path(&self, id: Uuid) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }
}

/// What is no record counts as none.
fn parse(bytes: &[u8]) -> Option<Record> {
    serde_json::from_slice(bytes)
        .inspect_err(|error| tracing::warn!(%error, "a template's record is damaged"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_kept_until_they_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path());
        assert!(records.all().unwrap().is_empty() && !dir.path().join("templates").exists());
        let record = Record {
            id: Uuid::new_v4(),
            name: "web-1".into(),
            key: CacheKey::try_from("a".repeat(63)).unwrap(),
            made: vec![Made { builder_id: "packer.file".into(), ..Made::default() }],
            created_at: DateTime::<Utc>::UNIX_EPOCH,
            build_seconds: 3,
            log_path: "/l".into(),
            holders: [Holder::random()].into(),
            inputs: serde_json::json!({}),
        };
        records.put(&record).unwrap();
        assert_eq!(records.get(&record.id.to_string()).unwrap(), Some(record.clone()));
        fs::write(dir.path().join("templates/x.json"), "{").unwrap();
        assert_eq!(records.all().unwrap().as_slice(), std::slice::from_ref(&record));
        assert_eq!(records.get("../../etc/passwd").unwrap(), None);
        records.remove(record.id).unwrap();
        records.remove(record.id).unwrap();
        assert_eq!(records.get(&record.id.to_string()).unwrap(), None);
    }
}
