//! What the local backend adds to an image's cache key: the base as requested and the disk's shape.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

use aws_lc_rs::digest::Digest;
use serde_json::{Value, json};

use super::store::Fingerprint;
use super::{Base, ImageSource, QemuImageSpec};
use crate::domain::cache_key::file_digest;

/// A base image on this computer cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the base image {path}")]
pub struct UnreadableBase {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl QemuImageSpec {
    /// What an image of this shape is known by. Neither the guest's size while building nor a base's path
    /// changes what comes out; the content of a base does.
    ///
    /// # Errors
    /// When a base image on this computer cannot be read.
    pub fn key_inputs(&self) -> Result<Value, UnreadableBase> {
        Ok(json!({
            "backend": "qemu",
            "base": self.base_input()?,
            "arch": self.arch.name(),
            "disk_size_gb": self.disk_size_gb,
            "format": self.format.name(),
            "compress": self.compress,
            "network": self.network.name(),
            "boot": self.boot,
        }))
    }

    fn base_input(&self) -> Result<Value, UnreadableBase> {
        Ok(match &self.base {
            Base::Bootstrap(bootstrap) => {
                let mut input = json!({
                    "suite": bootstrap.suite,
                    "mirror": bootstrap.mirror,
                    "snapshot": bootstrap.snapshot,
                    "packages": bootstrap.packages,
                });
                if let Some(security) = &bootstrap.security_mirror {
                    input["security_mirror"] = json!(security);
                }
                input
            }
            Base::Image { sha256: Some(sha256), .. } => json!({ "sha256": sha256 }),
            Base::Image { source: ImageSource::Path(path), sha256: None } => {
                let unreadable = |source| UnreadableBase { path: path.clone(), source };
                json!({ "sha256": hex::encode(digest(path).map_err(unreadable)?) })
            }
            Base::Image { source: ImageSource::Url(url), sha256: None } => json!({ "url": url }),
        })
    }
}

/// Digests of files in the state in which they were read.
type Digests = HashMap<(PathBuf, Fingerprint), Digest>;

/// A file's digest, computed once per process for each state of the file: a thousand images from one base
/// read it once.
fn digest(path: &Path) -> io::Result<Digest> {
    static KNOWN: LazyLock<Mutex<Digests>> = LazyLock::new(Mutex::default);
    let key = (path.to_owned(), Fingerprint::of(path)?);
    // Held while reading, so that parallel plans wait for the first one instead of reading too.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(digest) = known.get(&key) {
        return Ok(*digest);
    }
    let digest = file_digest(path)?;
    known.insert(key, digest);
    Ok(digest)
}
