//! Creating an image: adopt it, find it, or build it.

use std::sync::Arc;

use chrono::Utc;
use tfplugin::{Attr, CancellationToken, CreateRequest, Diagnostic, Diagnostics, StateSink};

use super::model::{ImageModel, ImageRequest, Origin, Settings};
use super::place::Place;
use super::private::Private;
use super::spread::Spreading;
use super::undistributed;
use crate::backends::{Backends, LOCAL, template};
use crate::diagnose;
use crate::domain::{
    BackendError, BuildRequest, Built, Copies, Distribution, Holder, Image, ImageBackend, LabelChange,
    Labels, Made,
};
use crate::resources::deadline::{Failure, Time};
use crate::resources::inputs;

/// One creation.
pub(super) struct Create<'a> {
    pub(super) backends: &'a Backends,
    pub(super) request: CreateRequest<ImageModel>,
    /// Where the image is to be.
    pub(super) place: Place,
    pub(super) time: Time,
    /// Who holds it.
    pub(super) holder: Holder,
    /// In which account it will be.
    pub(super) account: Option<String>,
}

impl Create<'_> {
    pub(super) async fn run(
        self,
        state: &mut StateSink<ImageModel>,
        diags: &mut Diagnostics,
    ) -> Result<(), Diagnostics> {
        let done = self.adopt_or_obtain(state, diags).await;
        let mut image = None;
        state.change(|model| image = model.image_id.known().cloned());
        if let Some(id) = image {
            // Last: killed before this, we leave the host without state, and the claim has to go. So it has when the host was
            // killed, which nobody will be told.
            if tfplugin::host_is_gone() {
                let text = format!("The host was killed before it knew of image {id}.");
                return Err(Diagnostic::error("Image not held", text).into());
            }
            let (images, doing) = (self.images()?, format!("keeping the claim on image {id}"));
            let known = self.time.last(&doing, images.confirm_claim(&id, &self.holder)).await;
            known.map_err(|failure| failure.diagnostic("Image not held", "create"))?;
        }
        done
    }

    async fn adopt_or_obtain(
        &self,
        state: &mut StateSink<ImageModel>,
        diags: &mut Diagnostics,
    ) -> Result<(), Diagnostics> {
        let planned = &self.request.planned;
        if let Some(id) = planned.existing_image_id.known() {
            return self.adopt(id, state).await;
        }
        let region = &self.place.region;
        let Some(wanted) = planned.request(&self.request.config, region, diags) else { return Ok(()) };
        let settings = planned.settings(&self.backends.tagging);
        let id = self.obtain(wanted, &settings, state).await?;
        let mut unmanaged = Vec::new();
        state.change(|model| unmanaged = model.unmanaged());
        if !unmanaged.is_empty() {
            let text = format!(
                "Sindri does not know how to read and delete what these builders make: {}. It is recorded in `packer_artifacts` and left alone from now on, also by destroy.",
                unmanaged.join(", ")
            );
            diags.push(Diagnostic::warning("Unmanaged artifacts", text).at("packer"));
        }
        self.distribute(&id, &settings, state, diags).await
    }

    /// The image that was planned, found or built; it is in state.
    async fn obtain(
        &self,
        wanted: ImageRequest,
        settings: &Settings,
        state: &mut StateSink<ImageModel>,
    ) -> Result<String, Diagnostics> {
        if let Some(id) = self.request.planned.image_id.known() {
            return self.claim(id, settings, state).await;
        }
        if settings.cache
            && let Some(id) = self.take_cached(&wanted, settings, state).await?
        {
            return Ok(id);
        }
        self.build(wanted, settings.clone(), state).await
    }

    fn images(&self) -> Result<Arc<dyn ImageBackend>, Diagnostics> {
        let Place { cloud, region } = &self.place;
        let images = self.backends.images(cloud, Some(region));
        images.ok_or_else(|| diagnose::unknown_backend(cloud).into())
    }

    /// Brings the image, which is in state, to other regions and accounts. What fails costs nobody the image: the next plan
    /// shows it, and tries again.
    async fn distribute(
        &self,
        id: &str,
        settings: &Settings,
        state: &mut StateSink<ImageModel>,
        diags: &mut Diagnostics,
    ) -> Result<(), Diagnostics> {
        let (from, to) = (&Distribution::default(), &settings.distribution);
        if from == to {
            return Ok(());
        }
        let images = self.images()?;
        let spreading = Spreading {
            backends: self.backends,
            images: images.as_ref(),
            id,
            model: &self.request.planned,
            holder: Some(self.holder.clone()),
            tags: &settings.labels.tags,
        };
        match spreading.within(&self.time, from, to).await {
            Ok(problems) => {
                diags.extend(problems.into_iter().map(|one| undistributed(one, Diagnostic::warning)));
            }
            Err(failure) => {
                let error = failure.diagnostic("Image not distributed as asked", "create");
                diags.push(Diagnostic {
                    path: error.path,
                    ..Diagnostic::warning(error.summary, error.detail)
                });
            }
        }
        match self.time.last(&format!("reading image {id}"), images.get(id)).await {
            Ok(image) => state.change(|model| super::take_in(&image, model)),
            Err(Failure { error, .. }) => {
                tracing::warn!(image = id, %error, "the image cannot be read again");
            }
        }
        Ok(())
    }

    /// Takes over an image that somebody else manages, as it is.
    async fn adopt(&self, id: &str, state: &mut StateSink<ImageModel>) -> Result<(), Diagnostics> {
        let images = self.images()?;
        let looked = self.time.look(&format!("reading image {id}"), images.get(id)).await;
        let image = looked.map_err(|failure| {
            failure.diagnostic("Image not adopted", "create").or_at("existing_image_id")
        })?;
        let private = Private { adopted: true, ..Private::default() };
        self.store(&image, Origin::Existing, &private, state).await
    }

    /// Takes the image that the plan showed.
    async fn claim(
        &self,
        id: &str,
        settings: &Settings,
        state: &mut StateSink<ImageModel>,
    ) -> Result<String, Diagnostics> {
        let gone = |failure: Failure| {
            if failure.error.is_not_found() {
                let text =
                    format!("The plan found image {id}, which was deleted since. Plan and apply again.");
                Diagnostic::error("Planned image is gone", text)
            } else {
                failure.diagnostic("Image not used", "create")
            }
        };
        let image = self.hold(self.images()?, id, settings, state).await.map_err(gone)?;
        tracing::info!(image = image.id, "an identical image exists and is used");
        Ok(image.id)
    }

    /// Takes an image with this key that came up since the plan, if one is known. Whoever builds looks once more when it is
    /// their turn.
    async fn take_cached(
        &self,
        wanted: &ImageRequest,
        settings: &Settings,
        state: &mut StateSink<ImageModel>,
    ) -> Result<Option<String>, Diagnostics> {
        let images = self.images()?;
        let found = self.time.look("looking for the image", images.find(&wanted.key)).await;
        let found = found.map_err(|failure| failure.diagnostic("Image look-up failed", "create"))?;
        for image in found.iter().filter(|image| settings.takes(image, Utc::now())) {
            match self.hold(Arc::clone(&images), &image.id, settings, state).await {
                Ok(image) => return Ok(Some(image.id)),
                Err(failure) if failure.error.is_not_found() => {}
                Err(failure) => return Err(failure.diagnostic("Image not used", "create").into()),
            }
        }
        Ok(None)
    }

    async fn hold(
        &self,
        images: Arc<dyn ImageBackend>,
        id: &str,
        settings: &Settings,
        state: &mut StateSink<ImageModel>,
    ) -> Result<Image, Failure> {
        let (images, holder, until) = (images.as_ref(), &self.holder, Utc::now() + self.time.left());
        self.time.run(|cancel| async move { images.hold(id, holder, until, &cancel).await }).await?;
        let image = match self.time.look(&format!("reading image {id}"), images.get(id)).await {
            Ok(image) => image,
            Err(failure) => {
                // A claim that no state knows would keep the image for ever.
                let (none, stop) = (Copies::new(), &self.request.cancel);
                if let Err(error) = images.release(id, Some(holder), true, &none, stop).await {
                    tracing::warn!(image = id, %error, "a claim cannot be given up");
                }
                return Err(failure);
            }
        };
        // The claim is in state before anything else can fail.
        self.store(&image, Origin::Cached, &Private::held_by(holder), state).await.ok();
        let labels = self.shared(&settings.labels);
        self.time.run(|cancel| label(images, id, &labels, cancel)).await?;
        Ok(image)
    }

    /// What of the labels goes to an image that somebody else made.
    fn shared(&self, labels: &Labels) -> Labels {
        Labels { tags: self.backends.tagging.managed(labels.tags.clone()), ..labels.clone() }
    }

    async fn build(
        &self,
        wanted: ImageRequest,
        settings: Settings,
        state: &mut StateSink<ImageModel>,
    ) -> Result<String, Diagnostics> {
        let (holder, labels) = (&self.holder, self.shared(&settings.labels));
        let builder = wanted.target.builder(self.backends);
        let mut request = BuildRequest {
            spec: wanted.spec,
            key: wanted.key,
            key_inputs: wanted.key_inputs,
            labels: settings.labels,
            inputs: inputs::store(&self.request.planned),
            holder: holder.clone(),
            share: settings.cache,
            not_before: settings.max_age.map(|max_age| Utc::now() - max_age),
            deadline: Utc::now() + self.time.left(),
            cancel: self.request.cancel.clone(),
        };
        let built = self.time.run(|cancel| async {
            request.cancel = cancel;
            builder.build(&request).await
        });
        match built.await {
            Ok(Built::Fresh(image)) => {
                self.store(&image, Origin::Built, &Private::held_by(holder), state).await?;
                Ok(image.id)
            }
            Ok(Built::Shared(image)) => {
                self.store(&image, Origin::Cached, &Private::held_by(holder), state).await?;
                let images = self.images()?;
                let labelled = self.time.run(|cancel| label(images.as_ref(), &image.id, &labels, cancel));
                labelled.await.map_err(|failure| failure.diagnostic("Image not labelled", "create"))?;
                Ok(image.id)
            }
            Err(failure) => Err(failure.diagnostic("Image not built", "create").into()),
        }
    }

    /// Puts the image into state.
    async fn store(
        &self,
        image: &Image,
        origin: Origin,
        private: &Private,
        state: &mut StateSink<ImageModel>,
    ) -> Result<(), Diagnostics> {
        let mut model = self.request.planned.clone();
        model.observe(image, self.place.cloud, &self.place.region);
        model.origin = origin.name().into();
        let tagging = &self.backends.tagging;
        let tags =
            if private.adopted { image.labels.tags.clone() } else { model.settings(tagging).labels.tags };
        model.tags_all = Attr::Known(tagging.managed(tags));
        if private.adopted {
            model.cache_key = Attr::Null;
        }
        let files = match self.place.cloud {
            LOCAL => Files::All,
            template::CLOUD => Files::among(&image.made),
            _ => Files::None,
        };
        let store = match files {
            Files::None => Ok(None),
            _ => self.time.run(|cancel| store_id(self.backends, cancel)).await.map(Some),
        };
        let id = store.as_ref().ok().cloned().flatten();
        let (store_id, files_store) = if files == Files::All { (id, None) } else { (None, id) };
        model.store_id = store_id.into();
        let sha256 = image.disk.as_ref().map(|disk| disk.sha256.clone());
        let made = (self.place.cloud == template::CLOUD).then_some(image.made.len());
        let account = self.account.clone();
        state.set_private(Private { sha256, made, files_store, account, ..private.clone() }.write());
        state.set(model);
        store.map(drop).map_err(|failure| failure.diagnostic("Local store not usable", "create").into())
    }
}

async fn store_id(backends: &Backends, cancel: CancellationToken) -> Result<String, BackendError> {
    backends.local.ensure_id(&cancel).await
}

/// How much of an image is on this computer alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Files {
    None,
    /// The rest can be reached from elsewhere.
    Some,
    All,
}

impl Files {
    /// Of what is looked after.
    fn among(made: &[Made]) -> Self {
        let are_files = || made.iter().filter(|one| one.managed).map(|one| !one.files.is_empty());
        match (are_files().any(|it| it), are_files().all(|it| it)) {
            (false, _) => Self::None,
            (true, false) => Self::Some,
            (true, true) => Self::All,
        }
    }
}

/// Puts this resource's labels on an image that it shares.
async fn label(
    images: &dyn ImageBackend,
    id: &str,
    labels: &Labels,
    cancel: CancellationToken,
) -> Result<(), BackendError> {
    let change = LabelChange::between(&Labels::default(), labels);
    if change.is_empty() { Ok(()) } else { images.change(id, &change, None, &cancel).await }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_image_of_nothing_but_files_is_out_of_reach_elsewhere() {
        let one = |files: &[&str], managed| Made {
            files: files.iter().map(Into::into).collect(),
            managed,
            ..Made::default()
        };
        let (ami, disk, unknown) = (one(&[], true), one(&["/a"], true), one(&["/b"], false));
        for (made, expected) in [
            (vec![ami.clone()], Files::None),
            (vec![disk.clone()], Files::All),
            (vec![disk.clone(), unknown.clone()], Files::All),
            (vec![ami.clone(), disk], Files::Some),
            (vec![ami, unknown.clone()], Files::None),
            (vec![unknown], Files::None),
        ] {
            assert_eq!(Files::among(&made), expected, "{made:?}");
        }
    }
}
