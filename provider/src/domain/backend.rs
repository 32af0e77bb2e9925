//! What every backend can do with images. Resources know backends by this trait alone.

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::cache_key::KeyInputs;
use super::vm::{Vm, VmRequest};
use super::{
    BackendError, CacheKey, Copies, Distribution, Holder, Image, ImageSpec, LabelChange, Labels, Security,
    Share, Template, TemplateRequest, Undistributed,
};
use crate::process::{BuildLog, Redactor, Secret};

/// A build as a builder gets it, which was made for one target and knows the rest.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// What goes into the image.
    pub spec: ImageSpec,
    /// The key under which the image will be found.
    pub key: CacheKey,
    /// What the key was made of, beside the specification.
    pub key_inputs: KeyInputs,
    /// What it carries from the start.
    pub labels: Labels,
    /// The user's configuration, for a later import.
    pub inputs: Value,
    /// Who will hold it.
    pub holder: Holder,
    /// Whether an image with the same key that another process finishes while this one waits will do.
    pub share: bool,
    /// Such an image must not be older.
    pub not_before: Option<DateTime<Utc>>,
    /// When the build must be over. What is left of it later is anybody's to remove.
    pub deadline: DateTime<Utc>,
    /// Ends the build early.
    pub cancel: CancellationToken,
}

/// A file that an image is known by was changed since its key was made of it.
#[derive(Debug, thiserror::Error)]
#[error(
    "a file that the image is built from was changed after the plan: whoever looks for the image by what the file held then \
     would get another one, so nothing of it is kept. Plan and apply again"
)]
pub struct InputsChanged;

impl BuildRequest {
    /// Sees that the files that the image is built from still hold what the key was made of: an image of anything else must not
    /// be found by it. `target` is what the backend adds to the key as it is now; none when that cannot be read any more.
    ///
    /// # Errors
    /// When one of them was changed or is gone.
    pub fn check_unchanged(&self, target: Option<Value>) -> Result<(), InputsChanged> {
        let now = target.and_then(|target| {
            let inputs = KeyInputs { target, ..self.key_inputs.clone() };
            CacheKey::of(&self.spec, &inputs).ok()
        });
        if now.as_ref() == Some(&self.key) { Ok(()) } else { Err(InputsChanged) }
    }

    /// The log of this build in `dir`, without these secrets.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn log<'a>(
        &self,
        dir: &Path,
        build: Uuid,
        secrets: impl IntoIterator<Item = &'a Secret>,
    ) -> Result<BuildLog, BackendError> {
        let log = BuildLog::create(dir, &self.spec.name_prefix, &build.to_string(), Redactor::new(secrets));
        log.map_err(|error| {
            BackendError::failed(format!("writing the build's log in {}", dir.display()), error)
        })
    }

    /// Holds the first of these images that will do, if one is still there: others have finished them.
    ///
    /// # Errors
    /// What keeps one from being held, but that it is gone.
    pub async fn take(
        &self,
        images: &dyn ImageBackend,
        found: Vec<Image>,
    ) -> Result<Option<Image>, BackendError> {
        let young = |image: &Image| self.not_before.is_none_or(|limit| image.created_at >= limit);
        for image in found.into_iter().filter(young) {
            match images.hold(&image.id, &self.holder, self.deadline, &self.cancel).await {
                Ok(()) => return Ok(Some(image)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// An image that is there, and that everybody is to have.
#[derive(Debug, Clone)]
pub struct LookRequest {
    /// Its id.
    pub id: String,
    /// What its name begins with.
    pub name_prefix: String,
    /// The key under which it is found.
    pub key: CacheKey,
    /// Who holds it.
    pub holder: Holder,
    /// The user's tags, for what is made meanwhile.
    pub tags: BTreeMap<String, String>,
    /// What its build was to remove.
    pub security: Security,
    /// When the look must be over. What is left of it later is anybody's to remove.
    pub deadline: DateTime<Utc>,
    /// Ends it early.
    pub cancel: CancellationToken,
}

/// What a build ended with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Built {
    /// It was built now.
    Fresh(Image),
    /// Another process had built it while this one waited.
    Shared(Image),
}

/// What became of an image when a holder let go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Released {
    /// Nobody held it any more: it is deleted.
    Deleted {
        /// What stays because somebody else uses it, and why.
        left: Vec<String>,
    },
    /// Others hold it.
    Held {
        /// How many.
        others: usize,
    },
    /// Nobody held it any more, and these credentials may not delete it: it stays.
    Forbidden {
        /// What there is of it.
        what: Vec<String>,
        /// What the cloud says.
        why: String,
    },
    /// It was asked to stay.
    Retained,
    /// Somebody else made it, and nobody here knows who still needs it: it stays.
    LetGo {
        /// What there is of it.
        what: Vec<String>,
    },
}

/// An image's lifecycle in one backend.
#[async_trait]
pub trait ImageBackend: Send + Sync {
    /// Images with this key that are complete and intact, the oldest first. What is known of a cloud may be as old as the
    /// process: one that is gone since is not there to be held, and a builder looks anew.
    async fn find(&self, key: &CacheKey) -> Result<Vec<Image>, BackendError>;

    /// One image.
    ///
    /// # Errors
    /// [`BackendError::NotFound`] when it is gone.
    async fn get(&self, id: &str) -> Result<Image, BackendError>;

    /// All images that we made, the oldest first.
    async fn list(&self) -> Result<Vec<Image>, BackendError>;

    /// The configuration that the image was built from, as [`BuildRequest::inputs`] had it.
    async fn inputs(&self, id: &str) -> Result<Value, BackendError>;

    /// Claims an image, so that nobody else's delete removes it. Claiming twice is the same as once. When it fails, the claim
    /// is not made, or goes by itself. `until` is when state knows the claim at the latest.
    async fn hold(
        &self,
        id: &str,
        holder: &Holder,
        until: DateTime<Utc>,
        cancel: &CancellationToken,
    ) -> Result<(), BackendError>;

    /// State knows who holds the image: the claim is not taken for abandoned from here on. Until then, it goes with the
    /// process that made it, and with its time, where a backend can see to that.
    async fn confirm_claim(&self, id: &str, holder: &Holder) -> Result<(), BackendError> {
        let _ = (id, holder);
        Ok(())
    }

    /// Who claims an image.
    async fn holders(&self, id: &str) -> Result<Vec<Holder>, BackendError>;

    /// Gives up a claim; the last one to do so deletes the image, unless it is to be retained. `copies` are those that
    /// state knows of: they go with it, and also when the image itself is gone already. What was not deleted when it is
    /// cancelled can be deleted by doing it again.
    async fn release(
        &self,
        id: &str,
        holder: Option<&Holder>,
        retain: bool,
        copies: &Copies,
        cancel: &CancellationToken,
    ) -> Result<Released, BackendError>;

    /// What is left of an image that is gone itself, beside copies, in words: it costs, and [`Self::release`] deletes it.
    async fn remains(&self, id: &str) -> Result<Vec<String>, BackendError> {
        let _ = id;
        Ok(Vec::new())
    }

    /// Changes what can change without a rebuild, and keeps the user's configuration as it is now, for a later import, if given.
    /// When it is cancelled, doing it again does what is left.
    async fn change(
        &self,
        id: &str,
        change: &LabelChange,
        inputs: Option<Value>,
        cancel: &CancellationToken,
    ) -> Result<(), BackendError>;

    /// Brings an image that is complete from one distribution to another. What fails in one region stops no other:
    /// it is returned. Doing it again does what is left.
    async fn distribute(
        &self,
        id: &str,
        from: &Distribution,
        to: &Distribution,
        cancel: &CancellationToken,
    ) -> Result<Vec<Undistributed>, BackendError> {
        let _ = (id, from, to, cancel);
        Ok(Vec::new())
    }

    /// Who else may use an image and its copies, by region, where the backend has such a thing. What is not told is not known.
    async fn shared(&self, id: &str) -> Result<BTreeMap<String, Share>, BackendError> {
        let _ = id;
        Ok(BTreeMap::new())
    }
}

/// Makes images for one target.
#[async_trait]
pub trait ImageBuilder: Send + Sync {
    /// Builds an image and holds it, until [`ImageBackend::confirm_claim`] for this process only. When this returns an error
    /// nothing is left of the build, or what is left is in the journal. A build that may be shared begins with a look for an
    /// image that is there by now, when nobody else on this computer builds it.
    async fn build(&self, request: &BuildRequest) -> Result<Built, BackendError>;

    /// Looks through an image that is there for what its build was to remove, and for others' keys: before everybody may have it.
    /// Nothing is looked at twice, and nothing where the user answers for it. Nothing of the look stays, or what does is in the
    /// journal.
    ///
    /// # Errors
    /// What was found, and whatever keeps the image from being looked through.
    async fn look_through(&self, request: &LookRequest) -> Result<(), BackendError> {
        let _ = request;
        Ok(())
    }

    /// What images are built from now, in words, when it is newer than the base that one was built from at that time. None
    /// where the same is always meant, or nobody tells: asked about a thousand images, it is looked for once.
    async fn newer_base(&self, base: &str, built: DateTime<Utc>) -> Option<String> {
        let _ = (base, built);
        None
    }

    /// What a build would be made of, as far as that is known without one. Makes nothing that stays, here or in a cloud.
    async fn template(&self, request: &TemplateRequest) -> Result<Template, BackendError> {
        let _ = request;
        Ok(Template::default())
    }
}

/// Machines that are there, in one backend.
#[async_trait]
pub trait VmBackend: Send + Sync {
    /// One machine as it is now; waits for none but one that is on its way out.
    ///
    /// # Errors
    /// [`BackendError::NotFound`] when it is gone.
    async fn get(&self, id: &str) -> Result<Vm, BackendError>;

    /// The configuration that the machine was made and last changed from, as [`VmRequest::inputs`] had it; null
    /// where the backend has no place for it.
    async fn inputs(&self, id: &str) -> Result<Value, BackendError>;

    /// Stops and removes a machine and all that was made for it.
    async fn destroy(&self, id: &str, cancel: &CancellationToken) -> Result<(), BackendError>;
}

/// Takes a machine into state as soon as there is something that must not be lost.
pub type Exists<'a> = dyn FnMut(&Vm) + Send + 'a;

/// Brings machines of one target to what is asked for.
#[async_trait]
pub trait VmLauncher: Send + Sync {
    /// Launches a machine. `exists` is called as soon as there is something that must not be lost.
    async fn create(
        &self,
        request: &VmRequest,
        exists: &mut Exists<'_>,
        cancel: &CancellationToken,
    ) -> Result<Vm, BackendError>;

    /// Brings a machine to what is asked for: its size, ports, tags, power.
    async fn update(
        &self,
        id: &str,
        request: &VmRequest,
        cancel: &CancellationToken,
    ) -> Result<Vm, BackendError>;
}
