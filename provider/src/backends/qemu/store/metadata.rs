//! What is stored about an image beside its disk.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{StoreError, io_error};
use crate::domain::image::DiskFile;
use crate::domain::{Artifact, CacheKey, Image, Labels};
use crate::process::private;

/// The file's name in the image's folder.
pub(super) const FILE: &str = "metadata.json";

/// What there is to know about an image. Unknown fields are kept out: a newer provider's file is read by an
/// older one as far as it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The image's name.
    pub name: String,
    /// What it was built from.
    pub cache_key: CacheKey,
    /// The disk's file name in the folder.
    pub disk: String,
    /// QEMU's name of the disk's format.
    pub format: String,
    /// Of the disk's bytes.
    pub sha256: String,
    /// How the disk looked when that was computed.
    pub fingerprint: Fingerprint,
    /// What the requested base turned out to be.
    pub resolved_base: String,
    /// When the build ended.
    pub created_at: DateTime<Utc>,
    /// How long it took.
    pub build_seconds: u64,
    /// The build's log.
    pub log_path: PathBuf,
    /// What can change without a rebuild.
    pub labels: Labels,
    /// The user's configuration.
    pub inputs: serde_json::Value,
}

/// A cheap sign that a file is still the same. Not the change time: a hard link alters it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since the epoch.
    pub mtime_ns: i64,
    /// The inode's number.
    pub inode: u64,
}

impl Fingerprint {
    /// How a file looks now.
    ///
    /// # Errors
    /// When it is not there or cannot be looked at.
    pub fn of(path: &Path) -> io::Result<Self> {
        let meta = fs::metadata(path)?;
        let mtime_ns = meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec());
        Ok(Self { size: meta.len(), mtime_ns, inode: meta.ino() })
    }
}

impl Metadata {
    pub(super) fn write(&self, path: &Path) -> Result<(), StoreError> {
        // Strings, numbers and maps with string keys always serialise.
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        private::write(path, &text).map_err(io_error("write", path))
    }

    pub(super) fn into_image(self, id: &str, disk: DiskFile) -> Image {
        let artifact = Artifact { image_id: id.to_owned(), snapshot_ids: Vec::new(), deprecated_at: None };
        Image {
            id: id.to_owned(),
            name: self.name,
            key: Some(self.cache_key),
            artifacts: BTreeMap::from([(super::super::REGION.to_owned(), artifact)]),
            unfinished: Default::default(),
            labels: self.labels,
            resolved_base: Some(self.resolved_base),
            created_at: self.created_at,
            build_seconds: Some(self.build_seconds),
            size_bytes: self.fingerprint.size,
            log_path: Some(self.log_path),
            disk: Some(disk),
            made: Vec::new(),
        }
    }
}
