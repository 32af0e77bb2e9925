//! The local store: finished images under `data_dir`, found by id or by cache key.
//!
//! An image is a folder `images/<build uuid>/` with its disk, `metadata.json` and `holders/`. It is made
//! beside (`images/.<build uuid>.partial/`) and renamed, so that a folder with a proper name is complete.
//! Knows nothing of how an image is built.

pub(super) mod files;
mod holders;
mod identity;
mod lock;
mod logs;
mod metadata;
mod partial;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use lock::KeyLock;
pub use metadata::{Fingerprint, Metadata};
pub use partial::Partial;

use crate::domain::image::DiskFile;
use crate::domain::{CacheKey, Holder, Image, LabelChange};
use crate::process::claims::{self, Claims};
use crate::process::lock::Busy;
use crate::process::private;

/// Images on this host. Clones are the same store.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    claims: Claims,
    /// Ends every wait for the store's lock.
    stop: CancellationToken,
}

/// What went wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such image, or an id that no image can have.
    #[error("there is no image {id} in {root}")]
    NotFound {
        /// As asked for.
        id: String,
        /// The store's folder.
        root: PathBuf,
    },
    /// What is stored about an image cannot be read as what we write.
    #[error("the metadata of image {id} is damaged ({path}); the image is not used and will be built again")]
    Corrupt {
        /// The image.
        id: String,
        /// The damaged file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The file system said no.
    #[error("cannot {action} {path}")]
    Io {
        /// A verb: "read", "write".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else held a lock until the wait for it was cancelled.
    #[error(transparent)]
    Busy(Busy),
    /// The process that we waited for did not succeed.
    #[error("another apply that was building the same image failed: {message}")]
    SharedFailure {
        /// What it reported.
        message: String,
    },
}

/// Attaches the action and the path to an error of the file system.
fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path, source }
}

impl Store {
    /// The store in this folder, which need not be there yet.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), claims: Claims::default(), stop: CancellationToken::new() }
    }

    /// The same store for work that does not wait for others longer than until `stop`.
    pub fn stopped_by(&self, stop: &CancellationToken) -> Self {
        Self { stop: stop.clone(), ..self.clone() }
    }

    /// The store's folder, `data_dir`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where logs are.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Where machines are.
    pub fn vms(&self) -> PathBuf {
        self.root.join("vms")
    }

    fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// An image's folder. Ids come from state and import strings, so only a UUID becomes a path.
    fn image_dir(&self, id: &str) -> Result<PathBuf, StoreError> {
        match Uuid::parse_str(id) {
            Ok(uuid) if uuid.hyphenated().to_string() == id => Ok(self.images().join(id)),
            _ => Err(self.not_found(id)),
        }
    }

    fn not_found(&self, id: &str) -> StoreError {
        StoreError::NotFound { id: id.to_owned(), root: self.root.clone() }
    }

    /// Makes the folder in which an image is put together, 0700, and marks it as being worked on.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn begin(&self, id: Uuid) -> Result<Partial, StoreError> {
        let dir = self.partial(id);
        // Under another name first: between its making and its claim, a sweep would take it for abandoned.
        let fresh = self.images().join(format!(".{id}.new"));
        private::create_dir(&fresh).map_err(io_error("make", &fresh))?;
        match Partial::lock(id, fresh.clone()).map_err(io_error("lock", &fresh))? {
            Some(partial) => partial.rename(dir.clone()).map_err(io_error("rename", &dir)),
            None => Err(io_error("lock", &fresh)(io::ErrorKind::WouldBlock.into())),
        }
    }

    fn partial(&self, id: Uuid) -> PathBuf {
        self.images().join(format!(".{id}.partial"))
    }

    /// Turns what [`Store::begin`] made, with the disk in it, into an image that `holder` holds as by [`Store::hold`].
    ///
    /// # Errors
    /// When the metadata cannot be written or the folder not renamed: then nothing of it is left.
    pub fn commit(&self, id: Uuid, metadata: &Metadata, holder: &Holder) -> Result<Image, StoreError> {
        self.try_commit(id, metadata, holder).inspect_err(|_| {
            self.claims.forget(&claims::name(id, holder));
            if let Err(error) = fs::remove_dir_all(self.partial(id)) {
                tracing::warn!(image = %id, %error, "what is left of an image that cannot be stored stays");
            }
        })
    }

    fn try_commit(&self, id: Uuid, metadata: &Metadata, holder: &Holder) -> Result<Image, StoreError> {
        let partial = self.partial(id);
        // Held before anybody can see it, so that nobody's delete can be the last one meanwhile.
        self.claim(&id.to_string(), &partial, holder)?;
        metadata.write(&partial.join(metadata::FILE))?;
        files::sync_tree(&partial).map_err(io_error("sync", &partial))?;
        // Against whoever removes the last image of this key meanwhile, and the key's folder with it.
        let _guard = self.lock_store()?;
        let (id, dir) = (id.to_string(), self.images().join(id.to_string()));
        self.show(&id, &partial, &dir, &metadata.cache_key).inspect_err(|_| {
            // No state will know of it: its holder would keep it for ever.
            let _ = fs::rename(&dir, &partial);
            let _ = self.unindex(&id);
        })
    }

    fn show(&self, id: &str, partial: &Path, dir: &Path, key: &CacheKey) -> Result<Image, StoreError> {
        // An entry without an image is passed over; an image without an entry would never be found.
        self.index(key, id)?;
        fs::rename(partial, dir).map_err(io_error("rename", partial))?;
        private::sync_dir(&self.images()).map_err(io_error("sync", &self.images()))?;
        self.get(id)
    }

    fn index(&self, key: &CacheKey, id: &str) -> Result<(), StoreError> {
        let keys = self.root.join("keys");
        let dir = keys.join(key.as_str());
        private::create_dir(&dir).map_err(io_error("make", &dir))?;
        let entry = dir.join(id);
        private::write(&entry, b"").map_err(io_error("write", &entry))?;
        for made_in in [dir, keys] {
            private::sync_dir(&made_in).map_err(io_error("sync", &made_in))?;
        }
        Ok(())
    }

    /// One image, its disk checked by size, modification time and inode, and by content where these differ.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] also when the folder is there and the disk is not.
    pub fn get(&self, id: &str) -> Result<Image, StoreError> {
        let dir = self.image_dir(id)?;
        let metadata = self.metadata(id)?;
        let path = dir.join(&metadata.disk);
        let now = match Fingerprint::of(&path) {
            Ok(now) => now,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.not_found(id)),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let sha256 = if now == metadata.fingerprint {
            metadata.sha256.clone()
        } else {
            let digest = crate::domain::cache_key::file_digest(&path).map_err(io_error("read", &path))?;
            hex::encode(digest)
        };
        let intact = sha256 == metadata.sha256;
        if intact && now != metadata.fingerprint {
            self.renew(id, now);
        }
        let disk = DiskFile { path, format: metadata.format.clone(), sha256, intact };
        Ok(metadata.into_image(id, disk))
    }

    fn metadata(&self, id: &str) -> Result<Metadata, StoreError> {
        let path = self.image_dir(id)?.join(metadata::FILE);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| StoreError::Corrupt {
                id: id.to_owned(),
                path,
                source,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.not_found(id)),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    /// The configuration that the image was built from.
    ///
    /// # Errors
    /// Those of [`Store::get`].
    pub fn inputs(&self, id: &str) -> Result<serde_json::Value, StoreError> {
        Ok(self.metadata(id)?.inputs)
    }

    /// Images with this key whose disks are what was built, the oldest first. What is damaged or
    /// half-removed is passed over.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn find(&self, key: &CacheKey) -> Result<Vec<Image>, StoreError> {
        let ids = files::names(&self.root.join("keys").join(key.as_str()));
        self.sound(ids.map_err(io_error("list", &self.root))?)
    }

    /// All images, the oldest first; damaged ones are passed over.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn list(&self) -> Result<Vec<Image>, StoreError> {
        let ids = files::names(&self.images());
        let mut images = Vec::new();
        for id in ids.map_err(io_error("list", &self.images()))? {
            images.extend(self.usable(&id)?);
        }
        images.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(images)
    }

    fn sound(&self, ids: BTreeSet<String>) -> Result<Vec<Image>, StoreError> {
        let mut images = Vec::new();
        for id in ids {
            let intact = |image: &Image| image.disk.as_ref().is_some_and(|disk| disk.intact);
            images.extend(self.usable(&id)?.filter(intact));
        }
        images.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(images)
    }

    fn usable(&self, id: &str) -> Result<Option<Image>, StoreError> {
        match self.get(id) {
            Ok(image) => Ok(Some(image)),
            Err(StoreError::NotFound { .. } | StoreError::Corrupt { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Changes what can change without a rebuild, and keeps the user's configuration as it is now, if given.
    ///
    /// # Errors
    /// Those of [`Store::get`], and when the metadata cannot be written.
    pub fn change(
        &self,
        id: &str,
        change: &LabelChange,
        inputs: Option<serde_json::Value>,
    ) -> Result<(), StoreError> {
        let _guard = self.lock_store()?;
        let mut metadata = self.metadata(id)?;
        change.apply(&mut metadata.labels);
        metadata.inputs = inputs.unwrap_or(metadata.inputs);
        metadata.write(&self.image_dir(id)?.join(metadata::FILE))
    }

    /// Keeps how an intact disk looks now, after a restore from a backup for one, so that it is not hashed at every look.
    /// Whoever changes the store in this moment goes first: the next look does it.
    fn renew(&self, id: &str, fingerprint: Fingerprint) {
        let Ok(Some(_guard)) = self.try_lock_store() else { return };
        let written = self.metadata(id).and_then(|metadata| {
            Metadata { fingerprint, ..metadata }.write(&self.image_dir(id)?.join(metadata::FILE))
        });
        if let Err(error) = written {
            tracing::debug!(image = id, %error, "an image's new look cannot be kept");
        }
    }

    /// Moves an image that cannot be used out of the way, to `damaged/`, and tells where it is now.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn set_aside(&self, id: &str) -> Result<PathBuf, StoreError> {
        let _guard = self.lock_store()?;
        let from = self.image_dir(id)?;
        let aside = self.root.join("damaged");
        private::create_dir(&aside).map_err(io_error("make", &aside))?;
        let to = aside.join(format!("{id}-{}", chrono::Utc::now().format("%Y%m%dT%H%M%S%.3fZ")));
        fs::rename(&from, &to).map_err(io_error("move", &from))?;
        self.unindex(id)?;
        Ok(to)
    }

    /// Sets aside every image whose metadata is damaged.
    ///
    /// # Errors
    /// When one cannot be moved.
    pub fn set_damaged_aside(&self) -> Result<(), StoreError> {
        for id in files::names(&self.images()).map_err(io_error("list", &self.images()))? {
            if let Err(StoreError::Corrupt { .. }) = self.metadata(&id) {
                let aside = self.set_aside(&id)?;
                tracing::warn!(image = id, to = %aside.display(), "a damaged image is set aside");
            }
        }
        Ok(())
    }

    /// Builds that were started and not finished, and that nobody works on any more.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn abandoned(&self) -> Result<Vec<Partial>, StoreError> {
        let images = self.images();
        let entries = match fs::read_dir(&images) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error("list", &images)(error)),
        };
        let build_id = |name: &str| {
            let id = name.strip_prefix('.')?.strip_suffix(".partial")?;
            Uuid::parse_str(id).ok()
        };
        let mut abandoned = Vec::new();
        for entry in entries.flatten() {
            let Some(id) = entry.file_name().to_str().and_then(build_id) else { continue };
            match Partial::lock(id, entry.path()) {
                Ok(partial) => abandoned.extend(partial),
                // Another user's, for one: root's, of an apply with sudo.
                Err(error) => {
                    tracing::warn!(folder = %entry.path().display(), %error, "an unfinished build cannot be looked at");
                }
            }
        }
        Ok(abandoned)
    }
}

#[cfg(test)]
pub(super) mod tests;
