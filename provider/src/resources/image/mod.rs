//! `sindri_image`: the lifecycle of an image, the same for every backend.

mod create;
pub mod model;
mod plan;
mod private;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use model::{ImageModel, Origin};
use private::Private;
use tfplugin::{
    Attr, CreateRequest, DeleteRequest, Diagnostic, Diagnostics, Model, Operation, Plan, PlanRequest,
    ReadRequest, Resource, State, StateSink, Timeouts, UpdateRequest,
};

use super::diagnose;
use super::inputs::{self, restore};
use crate::backends::{Backends, qemu};
use crate::domain::{BackendError, ImageBackend, LabelChange, Released};
use crate::provider::Configured;

/// How long a build may take when the user does not say.
const CREATE: Duration = Duration::from_secs(60 * 60);

/// The resource.
#[derive(Debug)]
pub struct ImageResource {
    provider: Arc<Configured>,
    seen: Seen,
}

/// Ids of images that this process knows from state. The host plans a replacement as a creation, in the same
/// process in which it read or upgraded the old object.
#[derive(Debug, Default)]
struct Seen(Mutex<HashSet<String>>);

impl Seen {
    fn add(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
    }

    fn contains(&self, id: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }
}

impl ImageResource {
    /// The resource of a provider.
    pub fn new(provider: Arc<Configured>) -> Self {
        Self { provider, seen: Seen::default() }
    }

    fn images(&self, backends: &Backends, model: &ImageModel) -> Result<Arc<dyn ImageBackend>, Diagnostics> {
        let cloud = model.cloud.known_deref().unwrap_or(qemu::CLOUD);
        backends
            .images(cloud, model.region.known_deref())
            .ok_or_else(|| diagnose::unknown_backend(cloud).into())
    }
}

/// Whether the image is in the store that we work with; false when it is elsewhere and to be forgotten.
fn is_here(backends: &Backends, model: &ImageModel) -> Result<bool, Diagnostics> {
    let (Some(id), Some(store)) = (model.image_id.known(), model.store_id.known()) else { return Ok(true) };
    let here = backends.local.is_here(&format!("image {id}"), store);
    here.map_err(|error| diagnose::backend("Image out of reach", &error).into())
}

#[async_trait]
impl Resource for ImageResource {
    type Model = ImageModel;

    fn name(&self) -> &'static str {
        "image"
    }

    async fn validate(&self, config: &ImageModel, diags: &mut Diagnostics) {
        config.validate(&config.encode(), diags);
    }

    async fn plan(
        &self,
        request: PlanRequest<'_, ImageModel>,
        plan: &mut Plan<ImageModel>,
        diags: &mut Diagnostics,
    ) {
        if let Err(errors) = self.refine(request, plan, diags).await {
            diags.extend(errors);
        }
    }

    async fn create(
        &self,
        request: CreateRequest<ImageModel>,
        state: &mut StateSink<ImageModel>,
        diags: &mut Diagnostics,
    ) -> Result<(), Diagnostics> {
        let backends = self.provider.require()?;
        let limit = Timeouts::of(&request.planned.timeouts, Operation::Create, CREATE);
        let create = create::Create { backends: &backends, request, limit };
        create.run(state, diags).await
    }

    async fn read(
        &self,
        request: ReadRequest<ImageModel>,
        diags: &mut Diagnostics,
    ) -> Result<Option<State<ImageModel>>, Diagnostics> {
        let backends = self.provider.require()?;
        let mut model = request.state;
        let Some(id) = model.image_id.known().cloned() else { return Ok(None) };
        self.seen.add(&id);
        if !is_here(&backends, &model)? {
            return Ok(None);
        }
        let images = self.images(&backends, &model)?;
        match images.get(&id).await {
            Ok(image) => {
                let origin = model.origin.clone();
                let (cloud, region) = (model.cloud.clone(), model.region.clone());
                model.observe(
                    &image,
                    cloud.known_deref().unwrap_or_default(),
                    region.known_deref().unwrap_or_default(),
                );
                model.origin = origin;
                if !Private::read(&request.private).adopted {
                    model.observe_labels(&image, &backends.default_tags);
                }
                Ok(Some(model.into()))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(BackendError::Damaged { source, .. }) => {
                let text = format!(
                    "{}\nThe image is set aside in `damaged/` under `data_dir` when the next one is built.",
                    diagnose::chain(source.as_ref())
                );
                diags.push(Diagnostic::warning("Damaged image", text));
                Ok(None)
            }
            Err(error) => Err(diagnose::backend("Image not readable", &error).into()),
        }
    }

    async fn update(
        &self,
        request: UpdateRequest<ImageModel>,
        state: &mut StateSink<ImageModel>,
        diags: &mut Diagnostics,
    ) -> Result<(), Diagnostics> {
        let _ = diags;
        let backends = self.provider.require()?;
        is_here(&backends, &request.prior)?;
        let mut model = request.planned;
        let settings = model.settings(&backends.default_tags);
        let private = Private::read(&request.private);
        if !private.adopted {
            let mut prior = request.prior.settings(&backends.default_tags).labels;
            prior.tags = request.prior.tags_all.clone().unwrap_or_default();
            let change = LabelChange::between(&prior, &settings.labels);
            let id = model.image_id.known().cloned().unwrap_or_default();
            let images = self.images(&backends, &model)?;
            if !change.is_empty() {
                let changed = images.relabel(&id, &change).await;
                changed.map_err(|error| diagnose::backend("Image not changed", &error))?;
            }
            let kept = images.remember(&id, inputs::store(&model)).await;
            kept.map_err(|error| diagnose::backend("Image not changed", &error))?;
            model.tags_all = Attr::Known(settings.labels.tags);
        } else {
            model.tags_all = request.prior.tags_all;
        }
        state.set(model);
        Ok(())
    }

    async fn delete(
        &self,
        request: DeleteRequest<ImageModel>,
        diags: &mut Diagnostics,
    ) -> Result<(), Diagnostics> {
        let private = Private::read(&request.private);
        let Some(id) = request.prior.image_id.known() else { return Ok(()) };
        if private.adopted {
            return Ok(());
        }
        let backends = self.provider.require()?;
        if !is_here(&backends, &request.prior)? {
            return Ok(());
        }
        let images = self.images(&backends, &request.prior)?;
        let retain = request.prior.retain_on_destroy.unwrap_or(false);
        match images.release(id, private.holder().as_ref(), retain).await {
            Ok(Released::Held { others }) => {
                let text = format!(
                    "Image {id} stays: {others} other resource(s) that share it still need it. The last of them deletes it."
                );
                diags.push(Diagnostic::warning("Image still in use", text));
                Ok(())
            }
            Ok(Released::Deleted { left }) => {
                if !left.is_empty() {
                    let text = format!(
                        "Image {id} is deleted. These stay, because others use them:\n{}",
                        left.join("\n")
                    );
                    diags.push(Diagnostic::warning("Something of the image stays", text));
                }
                Ok(())
            }
            Ok(Released::Retained) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(diagnose::backend("Image not deleted", &error).into()),
        }
    }

    async fn import(&self, id: &str) -> Result<State<ImageModel>, Diagnostics> {
        let backends = self.provider.require()?;
        let wrong = || {
            let text = format!(
                "{id:?} is not what can be imported: write \"qemu/IMAGE_ID\", with an id that the data source `sindri_images` lists."
            );
            Diagnostic::error("Invalid import id", text)
        };
        // What is built elsewhere cannot be described by this resource yet.
        let (cloud, image_id) =
            id.split_once('/').filter(|(cloud, _)| *cloud == qemu::CLOUD).ok_or_else(wrong)?;
        let images = backends.images(cloud, None).ok_or_else(wrong)?;
        let missing = |error: BackendError| diagnose::backend("Image not imported", &error);
        let image = images.get(image_id).await.map_err(missing)?;
        let inputs = images.inputs(image_id).await.map_err(missing)?;
        let mut model: ImageModel = restore(&inputs)?;
        model.observe(&image, cloud, qemu::REGION);
        model.origin = Origin::Imported.name().into();
        model.cache_key = image.key.as_ref().map(|key| key.as_str().to_owned()).into();
        model.store_id = backends.local.store.id().ok().flatten().into();
        model.import_labels(&image, &backends.default_tags);
        // A single claim is that of the resource which lost the image from its state; of several, others live.
        let holder = match images.holders(image_id).await.map_err(missing)?.as_slice() {
            [only] => Some(only.to_string()),
            _ => None,
        };
        let private = Private { holder, sha256: image.disk.map(|disk| disk.sha256), ..Private::default() };
        Ok(State { model, private: Some(private.write()) })
    }

    fn stored(&self, state: &ImageModel) {
        if let Some(id) = state.image_id.known() {
            self.seen.add(id);
        }
    }
}
