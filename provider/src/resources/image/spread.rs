//! Bringing an image to other regions and accounts, and to everybody only after a look at it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use tfplugin::{CancellationToken, Diagnostics, Path};

use super::model::ImageModel;
use crate::backends::{Backends, ImageSection};
use crate::diagnose;
use crate::domain::{BackendError, CacheKey, Distribution, Holder, ImageBackend, LookRequest, Undistributed};
use crate::resources::deadline::{Failure, Time};

/// An image that is complete and in state.
pub(super) struct Spreading<'a> {
    pub(super) backends: &'a Backends,
    pub(super) images: &'a dyn ImageBackend,
    pub(super) id: &'a str,
    /// The image as planned.
    pub(super) model: &'a ImageModel,
    pub(super) holder: Option<Holder>,
    /// The user's tags.
    pub(super) tags: &'a BTreeMap<String, String>,
}

impl Spreading<'_> {
    /// Brings it from one distribution to another, in the time that there is. Returns what was not done.
    pub(super) async fn within(
        &self,
        time: &Time,
        from: &Distribution,
        to: &Distribution,
    ) -> Result<Vec<Undistributed>, Failure> {
        let deadline = Utc::now() + time.left();
        time.run(|cancel| async move { self.distribute(from, to, deadline, &cancel).await }).await
    }

    async fn distribute(
        &self,
        from: &Distribution,
        to: &Distribution,
        deadline: DateTime<Utc>,
        cancel: &CancellationToken,
    ) -> Result<Vec<Undistributed>, BackendError> {
        let mut to = to.clone();
        let mut unclean = None;
        if to.is_public()
            && !from.is_public()
            && let Err(error) = self.look(deadline, cancel).await
        {
            if let Some(share) = &mut to.share {
                share.public = false;
            }
            let why = diagnose::backend("Not looked through", &error).detail;
            let problem = format!("The image is not made public: {why}");
            let cloud = self.model.section().map(ImageSection::cloud).unwrap_or_default();
            unclean = Some(Undistributed { attribute: format!("{cloud}.share.public"), problem });
        }
        let mut problems = self.images.distribute(self.id, from, &to, cancel).await?;
        problems.extend(unclean);
        Ok(problems)
    }

    async fn look(&self, deadline: DateTime<Utc>, cancel: &CancellationToken) -> Result<(), BackendError> {
        let model = self.model;
        let region = model.region.known_deref().unwrap_or_default();
        let target = model
            .section()
            .and_then(|section| section.target(None, region, &Path::root(), &mut Diagnostics::new()));
        let Some(target) = target else { return Ok(()) };
        let key = model.cache_key.known().and_then(|key| CacheKey::try_from(key.clone()).ok());
        let Some(key) = key else {
            let doing = format!("looking through image {}", self.id);
            return Err(BackendError::failed(doing, "its key is not known"));
        };
        let request = LookRequest {
            id: self.id.to_owned(),
            name_prefix: model.name_prefix.clone().unwrap_or_default(),
            key,
            holder: self.holder.clone().unwrap_or_else(Holder::random),
            tags: self.tags.clone(),
            security: model.security_spec(),
            deadline,
            cancel: cancel.clone(),
        };
        target.builder(self.backends).look_through(&request).await
    }
}
