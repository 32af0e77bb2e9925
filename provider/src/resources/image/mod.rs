//! `sindri_image`: the lifecycle of an image, the same for every backend.

mod create;
mod delete;
mod import;
mod lost;
pub mod model;
mod moved;
pub(crate) mod place;
mod plan;
mod private;
mod read;
mod spread;
#[cfg(test)]
mod tests;
mod update;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use model::ImageModel;
use private::Private;
use tfplugin::{
    CreateRequest, DeleteRequest, Diagnostic, Diagnostics, Model, MovedFrom, Operation, Plan, PlanRequest,
    ReadRequest, Resource, State, StateSink, Timeouts, UpdateRequest,
};

use super::account;
use super::deadline::Time;
use crate::backends::template::{self, Known};
use crate::backends::{Backends, ImageSection, LOCAL};
use crate::configured::Configured;
use crate::diagnose;
use crate::domain::{BackendError, Holder, Image, ImageBackend, Undistributed};

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

    fn images(
        &self,
        backends: &Backends,
        model: &ImageModel,
        private: &Private,
    ) -> Result<Arc<dyn ImageBackend>, Diagnostics> {
        let cloud = model.cloud.known_deref().unwrap_or(LOCAL);
        if cloud == template::CLOUD {
            let here = backends.local.store.id().ok().flatten();
            let are_files_elsewhere = private.files_store.is_some() && private.files_store != here;
            let known = model.known().map(|known| Known { are_files_elsewhere, ..known });
            return Ok(backends.template_images(known));
        }
        backends
            .images(cloud, model.region.known_deref())
            .ok_or_else(|| diagnose::unknown_backend(cloud).into())
    }
}

/// What was kept beside the state. Where the host has forgotten it, what can be told without.
async fn known(
    private: Private,
    kept: &[u8],
    images: &dyn ImageBackend,
    model: &ImageModel,
    time: &Time,
) -> Result<Private, Diagnostics> {
    let Some(id) = model.image_id.known().filter(|_| kept.is_empty()) else { return Ok(private) };
    match time.look(&format!("reading image {id}"), images.holders(id)).await {
        Ok(holders) => Ok(Private::recovered(model, &holders)),
        Err(failure) if matches!(failure.error, BackendError::Cancelled { .. }) => {
            Err(failure.diagnostic("Image not readable", time.timeout).into())
        }
        Err(_) => Ok(Private::recovered(model, &[])),
    }
}

/// Takes in the image as it is now.
fn take_in(image: &Image, model: &mut ImageModel) {
    let (origin, cloud, region) = (model.origin.clone(), model.cloud.clone(), model.region.clone());
    model.observe(image, cloud.known_deref().unwrap_or_default(), region.known_deref().unwrap_or_default());
    model.origin = origin;
}

/// The same, with what became of its distribution.
async fn observe(
    images: &dyn ImageBackend,
    image: &Image,
    model: &mut ImageModel,
    time: &Time,
) -> Result<(), Diagnostics> {
    take_in(image, model);
    let shared = if model.manages_sharing() {
        let shared = time.last(&format!("reading image {}", image.id), images.shared(&image.id)).await;
        Some(shared.map_err(|failure| {
            let told = failure.diagnostic("Image not readable", time.timeout);
            let cloud = model.section().map(ImageSection::cloud).unwrap_or_default();
            told.or_at(cloud)
        })?)
    } else {
        None
    };
    model.observe_distribution(image, shared.as_ref());
    Ok(())
}

/// What was not done, as an error or a warning.
fn undistributed(one: Undistributed, severity: fn(String, String) -> Diagnostic) -> Diagnostic {
    let Undistributed { attribute, problem } = one;
    let text = format!("{problem}\nThe image itself is as planned, and what worked stays.");
    severity("Image not distributed as asked".to_owned(), text).at(diagnose::attribute_path(&attribute))
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
        if let Err(errors) = self.plan_image(request, plan, diags).await {
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
        let time = Time::of(&request.cancel, limit, "create");
        let place = place::Place::of_new(&backends, &request.planned).await;
        let account = account::current(&backends, place.cloud, &time).await;
        let holder = Holder::random();
        let create = create::Create { backends: &backends, request, place, time, holder, account };
        create.run(state, diags).await
    }

    async fn read(
        &self,
        request: ReadRequest<ImageModel>,
        diags: &mut Diagnostics,
    ) -> Result<Option<State<ImageModel>>, Diagnostics> {
        self.read_image(request, diags).await
    }

    async fn update(
        &self,
        request: UpdateRequest<ImageModel>,
        state: &mut StateSink<ImageModel>,
        diags: &mut Diagnostics,
    ) -> Result<(), Diagnostics> {
        self.update_image(request, state, diags).await
    }

    async fn delete(
        &self,
        request: DeleteRequest<ImageModel>,
        diags: &mut Diagnostics,
    ) -> Result<(), Diagnostics> {
        self.delete_image(request, diags).await
    }

    async fn import(&self, id: &str) -> Result<State<ImageModel>, Diagnostics> {
        self.import_image(id).await
    }

    async fn take_over(&self, source: MovedFrom) -> Result<Option<State<ImageModel>>, Diagnostics> {
        moved::take_over(&source)
    }

    fn stored(&self, state: &ImageModel) {
        if let Some(id) = state.image_id.known() {
            self.seen.add(id);
        }
    }
}
