//! Creating an image: adopt it, find it, or build it.

use std::time::Duration;

use chrono::Utc;
use tfplugin::{Attr, CreateRequest, Diagnostic, Diagnostics, StateSink};

use super::model::{ImageModel, ImageRequest, Origin, Settings};
use super::private::Private;
use crate::backends::{Backends, qemu};
use crate::domain::{BackendError, BuildRequest, Built, Holder, Image, ImageBackend, LabelChange, Labels};
use crate::resources::{deadline, diagnose, inputs};

/// One creation.
pub(super) struct Create<'a> {
    pub(super) backends: &'a Backends,
    pub(super) request: CreateRequest<ImageModel>,
    pub(super) limit: Duration,
}

impl Create<'_> {
    pub(super) async fn run(
        self,
        state: &mut StateSink<ImageModel>,
        diags: &mut Diagnostics,
    ) -> Result<(), Diagnostics> {
        let planned = &self.request.planned;
        if let Some(id) = planned.existing_image_id.known() {
            return self.adopt(id, state).await;
        }
        let Some(wanted) = planned.request(&self.request.config, diags) else { return Ok(()) };
        let settings = planned.settings(&self.backends.default_tags);
        if let Some(id) = planned.image_id.known() {
            return self.claim(id, &settings, state).await;
        }
        if settings.cache && self.take_cached(&wanted, &settings, state).await? {
            return Ok(());
        }
        self.build(wanted, settings, state).await
    }

    fn images(&self) -> std::sync::Arc<dyn ImageBackend> {
        self.backends.local.clone()
    }

    /// Takes over an image that somebody else manages, as it is.
    async fn adopt(&self, id: &str, state: &mut StateSink<ImageModel>) -> Result<(), Diagnostics> {
        let image = self
            .images()
            .get(id)
            .await
            .map_err(|error| diagnose::backend("Image not adopted", &error).at("existing_image_id"))?;
        let private = Private { adopted: true, ..Private::default() };
        self.store(&image, Origin::Existing, &private, state)
    }

    /// Takes the image that the plan showed.
    async fn claim(
        &self,
        id: &str,
        settings: &Settings,
        state: &mut StateSink<ImageModel>,
    ) -> Result<(), Diagnostics> {
        let gone = |error: BackendError| {
            if error.is_not_found() {
                let text =
                    format!("The plan found image {id}, which was deleted since. Plan and apply again.");
                Diagnostic::error("Planned image is gone", text)
            } else {
                diagnose::backend("Image not used", &error)
            }
        };
        let image = self.hold(id, settings, state).await.map_err(gone)?;
        tracing::info!(image = image.id, "an identical image exists and is used");
        Ok(())
    }

    /// Takes an image with this key that came up since the plan; false when there is none.
    async fn take_cached(
        &self,
        wanted: &ImageRequest,
        settings: &Settings,
        state: &mut StateSink<ImageModel>,
    ) -> Result<bool, Diagnostics> {
        let found = self.images().find(&wanted.key).await;
        let found = found.map_err(|error| diagnose::backend("Image look-up failed", &error))?;
        for image in found.iter().filter(|image| settings.takes(image, Utc::now())) {
            match self.hold(&image.id, settings, state).await {
                Ok(_) => return Ok(true),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(diagnose::backend("Image not used", &error).into()),
            }
        }
        Ok(false)
    }

    async fn hold(
        &self,
        id: &str,
        settings: &Settings,
        state: &mut StateSink<ImageModel>,
    ) -> Result<Image, BackendError> {
        let images = self.images();
        let holder = Holder::random();
        images.hold(id, &holder).await?;
        let image = match images.get(id).await {
            Ok(image) => image,
            Err(error) => {
                // A claim that no state knows would keep the image for ever.
                if let Err(error) = images.release(id, Some(&holder), true).await {
                    tracing::warn!(image = id, %error, "a claim cannot be given up");
                }
                return Err(error);
            }
        };
        // The claim is in state before anything else can fail.
        self.store(&image, Origin::Cached, &Private::held_by(&holder), state).ok();
        self.label(id, &settings.labels).await?;
        Ok(image)
    }

    /// Puts this resource's labels on an image that it shares.
    async fn label(&self, id: &str, labels: &Labels) -> Result<(), BackendError> {
        let change = LabelChange::between(&Labels::default(), labels);
        if change.is_empty() { Ok(()) } else { self.images().relabel(id, &change).await }
    }

    async fn build(
        &self,
        wanted: ImageRequest,
        settings: Settings,
        state: &mut StateSink<ImageModel>,
    ) -> Result<(), Diagnostics> {
        let (holder, labels) = (Holder::random(), settings.labels.clone());
        let builder = self.backends.builder(&wanted.target);
        let mut request = BuildRequest {
            spec: wanted.spec,
            key: wanted.key,
            labels: settings.labels,
            inputs: inputs::store(&self.request.planned),
            holder: holder.clone(),
            share: settings.cache,
            not_before: settings.max_age.map(|max_age| Utc::now() - max_age),
            deadline: Utc::now() + self.limit,
            cancel: self.request.cancel.clone(),
        };
        let built = deadline::run(&self.request.cancel, self.limit, |cancel| async {
            request.cancel = cancel;
            builder.build(&request).await
        });
        match built.await {
            Ok(Built::Fresh(image)) => self.store(&image, Origin::Built, &Private::held_by(&holder), state),
            Ok(Built::Shared(image)) => {
                self.store(&image, Origin::Cached, &Private::held_by(&holder), state)?;
                let labelled = self.label(&image.id, &labels).await;
                labelled.map_err(|error| diagnose::backend("Image not labelled", &error).into())
            }
            Err(failure) => Err(failure.diagnostic("Image not built", "create").into()),
        }
    }

    /// Puts the image into state.
    fn store(
        &self,
        image: &Image,
        origin: Origin,
        private: &Private,
        state: &mut StateSink<ImageModel>,
    ) -> Result<(), Diagnostics> {
        let mut model = self.request.planned.clone();
        model.observe(image, qemu::CLOUD, qemu::REGION);
        model.origin = origin.name().into();
        let settings = model.settings(&self.backends.default_tags);
        model.tags_all = if private.adopted {
            Attr::Known(image.labels.tags.clone())
        } else {
            Attr::Known(settings.labels.tags)
        };
        if private.adopted {
            model.cache_key = Attr::Null;
        }
        let store = self.backends.local.store.ensure_id();
        model.store_id = store.as_ref().ok().cloned().into();
        let sha256 = image.disk.as_ref().map(|disk| disk.sha256.clone());
        state.set_private(Private { sha256, ..private.clone() }.write());
        state.set(model);
        store
            .map(drop)
            .map_err(|error| Diagnostic::error("Local store not usable", diagnose::chain(&error)).into())
    }
}
