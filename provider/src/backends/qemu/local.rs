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
    /// What images would start from now.
    pub bases: image::Bases,
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
        let refused = image::refused(&self.host(), cancel).await;
        let mut found = host::prerequisites(host::Looked {
            data_dir: self.store.root(),
            cache_dir: &self.cache_dir,
            refused,
            keyrings: image::keyrings(),
        });
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
        let find = move |store: &Store| store.find(&key);
        self.in_store("looking for the image in the local store", &go_on(), find).await
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
        self.in_store(&format!("reading image {id}"), &go_on(), get).await
    }

    async fn list(&self) -> Result<Vec<Image>, BackendError> {
        self.in_store("listing the local store", &go_on(), Store::list).await
    }

    async fn inputs(&self, id: &str) -> Result<Value, BackendError> {
        let wanted = id.to_owned();
        let inputs = move |store: &Store| store.inputs(&wanted);
        self.in_store(&format!("reading image {id}"), &go_on(), inputs).await
    }

    async fn hold(
        &self,
        id: &str,
        holder: &Holder,
        _until: DateTime<Utc>,
        cancel: &CancellationToken,
    ) -> Result<(), BackendError> {
        let (wanted, holder) = (id.to_owned(), holder.clone());
        let hold = move |store: &Store| store.hold(&wanted, &holder);
        self.in_store(&format!("claiming image {id}"), cancel, hold).await
    }

    async fn confirm_claim(&self, id: &str, holder: &Holder) -> Result<(), BackendError> {
        let (wanted, holder) = (id.to_owned(), holder.clone());
        let known = move |store: &Store| store.confirm_claim(&wanted, &holder);
        self.in_store(&format!("keeping the claim on image {id}"), &go_on(), known).await
    }

    async fn holders(&self, id: &str) -> Result<Vec<Holder>, BackendError> {
        let wanted = id.to_owned();
        let holders = move |store: &Store| store.holders(&wanted);
        self.in_store(&format!("reading image {id}"), &go_on(), holders).await
    }

    async fn release(
        &self,
        id: &str,
        holder: Option<&Holder>,
        retain: bool,
        _copies: &Copies,
        cancel: &CancellationToken,
    ) -> Result<Released, BackendError> {
        let (wanted, holder) = (id.to_owned(), holder.cloned());
        let release = move |store: &Store| store.release(&wanted, holder.as_ref(), retain);
        self.in_store(&format!("deleting image {id}"), cancel, release).await
    }

    async fn change(
        &self,
        id: &str,
        change: &LabelChange,
        inputs: Option<Value>,
        cancel: &CancellationToken,
    ) -> Result<(), BackendError> {
        let (wanted, change) = (id.to_owned(), change.clone());
        let change = move |store: &Store| store.change(&wanted, &change, inputs);
        self.in_store(&format!("changing image {id}"), cancel, change).await
    }
}

/// For what waits for nobody, and for those who give up by dropping it.
fn go_on() -> CancellationToken {
    CancellationToken::new()
}

impl Local {
    /// The store's id, made on first use.
    ///
    /// # Errors
    /// When it cannot be read or written, or somebody else works on the store until we are cancelled.
    pub async fn ensure_id(&self, cancel: &CancellationToken) -> Result<String, BackendError> {
        self.in_store("preparing the local store", cancel, Store::ensure_id).await
    }

    /// Works in the store on a thread that may block: images are hashed and large files deleted there. It waits for others
    /// who work there until it is cancelled or dropped.
    pub(super) async fn in_store<T: Send + 'static>(
        &self,
        operation: &str,
        cancel: &CancellationToken,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, BackendError> {
        let stop = cancel.child_token();
        let _dropped = stop.clone().drop_guard();
        let store = self.store.stopped_by(&stop);
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
        Err(error) => (None, State::Unusable, crate::domain::causes(&error)),
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
        other => BackendError::failed(operation, other),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use uuid::Uuid;

    use super::super::store::tests::put;
    use super::*;
    use crate::process::lock;

    fn local(dir: &std::path::Path) -> Local {
        Local {
            store: Store::at(dir.join("data")),
            cache_dir: dir.join("cache"),
            accelerator: AcceleratorChoice::Auto,
            foreign_store: ForeignStore::Error,
            runner: Runner::new("/no/such/program"),
            packer: packer::Settings::default(),
            bases: Default::default(),
        }
    }

    /// Somebody else works on the store without end.
    #[tokio::test]
    async fn who_works_on_the_store_is_waited_for_until_cancelled() {
        let dir = tempfile::tempdir().unwrap();
        let local = local(dir.path());
        let key = CacheKey::try_from("a".repeat(63)).unwrap();
        let (id, holder) = (put(&local.store, &key, 1).id, Holder::random());
        let lock = local.store.root().join("store.lock");
        let held = lock::try_open(&lock).unwrap().unwrap();

        let cancel = CancellationToken::new();
        let waiting = async {
            let none = Copies::new();
            let labels = LabelChange { description: Some(Some("d".into())), ..LabelChange::default() };
            let (hold, change, release, first, sweep) = tokio::join!(
                local.hold(&id, &holder, Utc::now(), &cancel),
                local.change(&id, &labels, None, &cancel),
                local.release(&id, Some(&holder), false, &none, &cancel),
                local.ensure_id(&cancel),
                local.sweep(crate::backends::qemu::sweep::Sweep::Abandoned, &cancel),
            );
            [hold.err(), change.err(), release.err(), first.err(), sweep.err()]
        };
        let stopped = async {
            // What only looks waits for nobody.
            assert_eq!(local.get(&id).await.unwrap().id, id);
            assert_eq!(local.find(&key).await.unwrap().len(), 1);
            assert!(local.get(&Uuid::new_v4().to_string()).await.unwrap_err().is_not_found());
            tokio::time::sleep(Duration::from_millis(200)).await;
            cancel.cancel();
        };
        let (failures, ()) = tokio::join!(waiting, stopped);
        for failure in failures {
            let told = crate::domain::causes(&failure.expect("it did not wait"));
            let why =
                format!("gave up after 0 s: another resource of this run holds the lock {}", lock.display());
            assert!(told.contains(&why), "{told}");
        }
        drop(held);
        let after = local.store.get(&id).unwrap();
        assert_eq!((after.labels.description, local.store.holders(&id).unwrap().len()), (None, 0));
    }

    /// The thread that waits would keep the provider from its end.
    #[test]
    fn a_wait_that_nobody_awaits_ends() {
        let dir = tempfile::tempdir().unwrap();
        let local = local(dir.path());
        let key = CacheKey::try_from("a".repeat(63)).unwrap();
        let id = put(&local.store, &key, 1).id;
        let _held = lock::try_open(&local.store.root().join("store.lock")).unwrap().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (none, late) = (LabelChange::default(), Duration::from_millis(50));
            tokio::time::timeout(late, local.change(&id, &none, None, &go_on())).await.unwrap_err();
        });
        let asked = Instant::now();
        runtime.shutdown_timeout(Duration::from_secs(10));
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    }
}
