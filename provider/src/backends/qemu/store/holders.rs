//! Who still needs an image, and its removal when nobody does.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::{Store, StoreError, files, io_error};
use crate::domain::Holder;
use crate::domain::backend::Released;
use crate::process::{claims, private};

const HOUR: Duration = Duration::from_secs(3600);

impl Store {
    /// Claims an image for a resource. The claim goes with this process, until [`Store::confirm_claim`].
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the image went away meanwhile.
    pub fn hold(&self, id: &str, holder: &Holder) -> Result<(), StoreError> {
        let _guard = self.lock_store()?;
        let dir = self.image_dir(id)?;
        if !dir.is_dir() {
            return Err(self.not_found(id));
        }
        self.claim(id, &dir, holder)
    }

    pub(super) fn claim(&self, id: &str, dir: &Path, holder: &Holder) -> Result<(), StoreError> {
        let file = dir.join("holders").join(holder.to_string());
        self.claims.make(&claims::name(id, holder), &file).map_err(io_error("write", &file))
    }

    /// State knows a claim of this process, which stays from here on.
    ///
    /// # Errors
    /// What the file system says.
    pub fn confirm_claim(&self, id: &str, holder: &Holder) -> Result<(), StoreError> {
        let dir = self.image_dir(id)?;
        self.claims.settle(&claims::name(id, holder)).map(drop).map_err(io_error("write", &dir))
    }

    /// Who claims an image. A claim of a process that was killed before any state knew it is none.
    ///
    /// # Errors
    /// What the file system says.
    pub fn holders(&self, id: &str) -> Result<Vec<Holder>, StoreError> {
        let dir = self.image_dir(id)?.join("holders");
        let mut holders = Vec::new();
        for name in files::names(&dir).map_err(io_error("list", &dir))? {
            let file = dir.join(&name);
            if let Some(holder) = Holder::parse(&name)
                && !claims::is_abandoned(&file).map_err(io_error("read", &file))?
            {
                holders.push(holder);
            }
        }
        Ok(holders)
    }

    /// Bytes of the disk that an image alone takes up: what has another name, too, is not free when it goes.
    ///
    /// # Errors
    /// What the file system says.
    pub fn own_bytes(&self, id: &str) -> Result<u64, StoreError> {
        let dir = self.image_dir(id)?;
        let mut bytes = 0;
        for name in files::names(&dir).map_err(io_error("list", &dir))? {
            let path = dir.join(name);
            let file = fs::symlink_metadata(&path).map_err(io_error("read", &path))?;
            if file.is_file() && file.nlink() == 1 {
                // In blocks of stat(2), whatever those of the file system are.
                bytes += file.blocks() * 512;
            }
        }
        Ok(bytes)
    }

    /// Gives up a claim. The last one removes the image, unless it is to be retained.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such image; what the file system says.
    pub fn release(&self, id: &str, holder: Option<&Holder>, retain: bool) -> Result<Released, StoreError> {
        let _guard = self.lock_store()?;
        let dir = self.image_dir(id)?;
        if !dir.is_dir() {
            return Err(self.not_found(id));
        }
        if let Some(holder) = holder {
            remove_file(&dir.join("holders").join(holder.to_string()))?;
            self.claims.forget(&claims::name(id, holder));
        }
        let others = self.holders(id)?.len();
        if retain {
            return Ok(Released::Retained);
        }
        if others > 0 {
            return Ok(Released::Held { others });
        }
        self.remove(id, &dir)?;
        Ok(Released::Deleted { left: Vec::new() })
    }

    fn remove(&self, id: &str, dir: &Path) -> Result<(), StoreError> {
        // An entry whose image's metadata is damaged stays behind; `find` passes it over.
        let key = self.metadata(id).ok().map(|metadata| metadata.cache_key);
        // Renamed first: a folder with a proper name is a complete image.
        let gone = self.images().join(format!(".{id}.deleted"));
        fs::rename(dir, &gone).map_err(io_error("rename", dir))?;
        if let Some(key) = key {
            let entries = self.root.join("keys").join(key.as_str());
            remove_file(&entries.join(id))?;
            // Fails while other images have the key, and then is not wanted.
            let _ = fs::remove_dir(&entries);
        }
        fs::remove_dir_all(&gone).map_err(io_error("delete", &gone))
    }

    /// Removes what is left of an image whose disk is gone: there is nothing to manage any more. A folder of which we do not
    /// know what was in it, and a disk that is a link to what is not mounted, may be whole again: they stay. Whoever changes
    /// the store in this moment goes first: the next look does it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove_remains(&self, id: &str) -> Result<(), StoreError> {
        let dir = self.image_dir(id)?;
        if !self.images().is_dir() {
            return Ok(());
        }
        let Some(_guard) = self.try_lock_store()? else { return Ok(()) };
        match self.get(id) {
            Err(StoreError::NotFound { .. }) if !dir.is_dir() => self.unindex(id),
            Err(StoreError::NotFound { .. }) if self.is_without_disk(id, &dir) => self.remove(id, &dir),
            _ => Ok(()),
        }
    }

    fn is_without_disk(&self, id: &str, dir: &Path) -> bool {
        let disk = self.metadata(id).map(|metadata| fs::symlink_metadata(dir.join(metadata.disk)));
        matches!(disk, Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound)
    }

    /// Removes an image that is gone from whatever key it was found by.
    pub(super) fn unindex(&self, id: &str) -> Result<(), StoreError> {
        let keys = self.root.join("keys");
        for key in files::names(&keys).map_err(io_error("list", &keys))? {
            remove_file(&keys.join(&key).join(id))?;
            let _ = fs::remove_dir(keys.join(&key));
        }
        Ok(())
    }

    /// Ends what a crash interrupted: folders of images that were being deleted, of builds that had not begun, and entries
    /// of images that are not there.
    ///
    /// # Errors
    /// What the file system says.
    pub fn finish_interrupted(&self) -> Result<(), StoreError> {
        let _guard = self.lock_store()?;
        let Ok(entries) = fs::read_dir(self.images()) else { return Ok(()) };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().ends_with(".deleted") {
                fs::remove_dir_all(entry.path()).map_err(io_error("delete", &entry.path()))?;
            } else if name.to_string_lossy().ends_with(".new") && is_old(&entry) {
                // Empty, or somebody has begun meanwhile.
                let _ = fs::remove_dir(entry.path());
            }
        }
        self.forget_entries()
    }

    /// Removes entries without an image. Both are made under the store's lock, which the caller has.
    fn forget_entries(&self) -> Result<(), StoreError> {
        let keys = self.root.join("keys");
        for key in files::names(&keys).map_err(io_error("list", &keys))? {
            let dir = keys.join(key);
            for id in files::names(&dir).map_err(io_error("list", &dir))? {
                // A link to what is not mounted is there.
                let image = fs::symlink_metadata(self.images().join(&id));
                if image.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                    remove_file(&dir.join(id))?;
                }
            }
            let _ = fs::remove_dir(&dir);
        }
        Ok(())
    }
}

/// Whether it was made more than an hour ago.
fn is_old(entry: &fs::DirEntry) -> bool {
    let age = entry.metadata().and_then(|found| found.modified()).map(|made| made.elapsed());
    matches!(age, Ok(Ok(age)) if age > HOUR)
}

fn remove_file(path: &Path) -> Result<(), StoreError> {
    private::remove_file(path).map_err(io_error("delete", path))
}
