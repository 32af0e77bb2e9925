//! This computer as a backend: the store behind the trait that resources know.

use std::path::PathBuf;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::QemuImageSpec;
use super::builder::LocalBuilder;
use super::host::{self, AcceleratorChoice};
use super::image::{self, Host};
use super::store::{Store, StoreError};
use crate::domain::prerequisite::{Prerequisite, State};
use crate::domain::{BackendError, CacheKey, Copies, Holder, Image, ImageBackend, LabelChange, Released};
use crate::packer;
use crate::process::{Limits, Runner};

/// What to do with an object that another store made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignStore {
    /// Say so and stop.
    Error,
    /// Drop it from the state.
    Forget,
}

/// This computer.
#[derive(Debug)]
pub struct Local {
    /// Finished images.
    pub store: Store,
    /// What can be made again: bootstrapped trees, downloads.
    pub cache_dir: PathBuf,
    /// How guests run.
    pub accelerator: AcceleratorChoice,
    /// What to do with an object that another store made.
    pub foreign_store: ForeignStore,
    /// Starts programs.
    pub runner: Runner,
    /// Which Packer builds what is built by Packer.
    pub packer: packer::Settings,
}

impl Local {
    /// Who builds images of this shape.
    pub fn builder(self: &std::sync::Arc<Self>, spec: QemuImageSpec) -> LocalBuilder {
        LocalBuilder::new(std::sync::Arc::clone(self), spec)
    }

    /// What a build uses of this computer.
    pub(super) fn host(&self) -> Host {
        Host {
            runner: self.runner.clone(),
            cache_dir: self.cache_dir.clone(),
            accelerator: self.accelerator,
            etc_apt: "/etc/apt".into(),
            packer: self.packer.clone(),
        }
    }

    /// What is needed here to build images and run machines, each thing with its state.
    pub async fn prerequisites(&self, cancel: &CancellationToken) -> Vec<Prerequisite> {
        let refused = image::refused(&self.runner, cancel).await;
        let mut found = host::prerequisites(self.store.root(), refused.map(|error| error.to_string()));
        let packer = self.packer.locate(&self.runner, &Limits::cancelled_by(cancel)).await;
        found.push(packer_prerequisite(packer));
        found
    }

    /// Whether an object that carries this store's id is here. `Ok(false)` when it is elsewhere and is to be
    /// forgotten.
    ///
    /// # Errors
    /// [`BackendError::Foreign`] when it is elsewhere and that is an error.
    pub fn is_here(&self, object: &str, store_id: &str) -> Result<bool, BackendError> {
        let here = self.store.id().map_err(|error| BackendError::failed("reading the local store", error))?;
        let here = match here {
            Some(here) if here == store_id => return Ok(true),
            Some(here) => format!("{here} in {}", self.store.root().display()),
            None => format!("an empty one in {}", self.store.root().display()),
        };
        match self.foreign_store {
            ForeignStore::Forget => Ok(false),
            ForeignStore::Error => {
                Err(BackendError::Foreign { id: object.to_owned(), there: store_id.to_owned(), here })
            }
        }
    }
}

#[async_trait]
impl ImageBackend for Local {
    async fn find(&self, key: &CacheKey) -> Result<Vec<Image>, BackendError> {
        let key = key.clone();
        self.in_store("looking for the image in the local store", move |store| store.find(&key)).await
    }

    async fn get(&self, id: &str) -> Result<Image, BackendError> {
        let wanted = id.to_owned();
        let get = move |store: &Store| {
            let got = store.get(&wanted);
            if let Err(StoreError::NotFound { .. }) = got
                && let Err(error) = store.remove_remains(&wanted)
            {
                tracing::warn!(image = wanted, %error, "what is left of a lost image cannot be removed");
            }
            got
        };
        self.in_store(&format!("reading image {id}"), get).await
    }

    async fn list(&self) -> Result<Vec<Image>, BackendError> {
        self.in_store("listing the local store", Store::list).await
    }

    async fn inputs(&self, id: &str) -> Result<Value, BackendError> {
        let wanted = id.to_owned();
        self.in_store(&format!("reading image {id}"), move |store| store.inputs(&wanted)).await
    }

    async fn hold(
        &self,
        id: &str,
        holder: &Holder,
        _until: DateTime<Utc>,
        _cancel: &CancellationToken,
    ) -> Result<(), BackendError> {
        let (wanted, holder) = (id.to_owned(), holder.clone());
        self.in_store(&format!("claiming image {id}"), move |store| store.hold(&wanted, &holder)).await
    }

    async fn holders(&self, id: &str) -> Result<Vec<Holder>, BackendError> {
        let wanted = id.to_owned();
        self.in_store(&format!("reading image {id}"), move |store| store.holders(&wanted)).await
    }

    async fn release(
        &self,
        id: &str,
        holder: Option<&Holder>,
        retain: bool,
        _copies: &Copies,
        _cancel: &CancellationToken,
    ) -> Result<Released, BackendError> {
        let (wanted, holder) = (id.to_owned(), holder.cloned());
        let release = move |store: &Store| store.release(&wanted, holder.as_ref(), retain);
        self.in_store(&format!("deleting image {id}"), release).await
    }

    async fn relabel(&self, id: &str, change: &LabelChange) -> Result<(), BackendError> {
        let (wanted, change) = (id.to_owned(), change.clone());
        self.in_store(&format!("changing image {id}"), move |store| store.relabel(&wanted, &change)).await
    }

    async fn remember(&self, id: &str, inputs: Value) -> Result<(), BackendError> {
        let wanted = id.to_owned();
        self.in_store(&format!("changing image {id}"), move |store| store.remember(&wanted, inputs)).await
    }
}

impl Local {
    /// Works in the store on a thread that may block: images are hashed and large files deleted there.
    async fn in_store<T: Send + 'static>(
        &self,
        operation: &str,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, BackendError> {
        let store = self.store.clone();
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(result) => result.map_err(|error| failed(operation, error)),
            Err(error) => Err(BackendError::failed(operation, std::io::Error::other(error))),
        }
    }
}

/// Only images of `engine = "packer"` need it.
fn packer_prerequisite(found: Result<packer::Packer, packer::LocateError>) -> Prerequisite {
    let (version, state, hint) = match found {
        Ok(packer) if packer.version < image::PACKER_NEEDED => {
            let hint = format!(
                "{}; `engine = \"packer\"` needs {} or later",
                packer.program.display(),
                image::PACKER_NEEDED
            );
            (Some(packer.version.to_string()), State::Unusable, hint)
        }
        Ok(packer) => (Some(packer.version.to_string()), State::Ok, packer.program.display().to_string()),
        Err(error @ packer::LocateError::Missing { .. }) => (None, State::Missing, error.to_string()),
        Err(error) => (None, State::Unusable, crate::domain::backend::causes(&error)),
    };
    Prerequisite { name: "Packer".to_owned(), version, state, hint, required: false }
}

/// A store's error as a backend's.
pub(super) fn failed(operation: &str, error: StoreError) -> BackendError {
    match error {
        StoreError::NotFound { id, .. } => BackendError::NotFound { kind: "image", id },
        StoreError::Corrupt { ref id, .. } => {
            BackendError::Damaged { id: id.clone(), source: Box::new(error) }
        }
        StoreError::Cancelled => BackendError::Cancelled { operation: operation.to_owned() },
        other => BackendError::failed(operation, other),
    }
}
