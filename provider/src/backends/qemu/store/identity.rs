//! Which store this is: state that was made on another host must not be mistaken for a lost image.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use super::{Store, StoreError, io_error};
use crate::process::private;

#[derive(Serialize, Deserialize)]
struct Identity {
    store_id: String,
}

impl Store {
    /// The store's id, `HOST-12 hex digits`; none while nothing was ever stored.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn id(&self) -> Result<Option<String>, StoreError> {
        let path = self.root.join("store.json");
        match fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice::<Identity>(&bytes) {
                Ok(identity) => Ok(Some(identity.store_id)),
                Err(error) => Err(io_error("read", &path)(error.into())),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    /// The store's id, made on first use.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn ensure_id(&self) -> Result<String, StoreError> {
        if let Some(id) = self.id()? {
            return Ok(id);
        }
        let _guard = self.lock_store()?;
        if let Some(id) = self.id()? {
            return Ok(id);
        }
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let identity = Identity { store_id: format!("{}-{}", host_name(), &unique[..12]) };
        let path = self.root.join("store.json");
        let text = serde_json::to_vec(&identity).unwrap_or_default();
        private::write(&path, &text).map_err(io_error("write", &path))?;
        Ok(identity.store_id)
    }
}

/// The host's name without its domain, letters, digits and dashes only.
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let short = name.split('.').next().unwrap_or_default();
    let clean: String = short.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    if clean.is_empty() { "host".to_owned() } else { clean }
}
