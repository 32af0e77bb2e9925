//! Changing an image in place: its labels, what is kept with it, and where it is.

use std::time::Duration;

use tfplugin::{Attr, Diagnostic, Diagnostics, Operation, StateSink, Timeouts, UpdateRequest};

use super::model::{ImageModel, Settings};
use super::private::Private;
use super::spread::Spreading;
use super::{ImageResource, known, observe, undistributed};
use crate::backends::{Backends, ImageSection};
use crate::domain::{Holder, Image, ImageBackend, LabelChange};
use crate::resources::deadline::{Failure, Time};
use crate::resources::inputs;

/// How long a change may take when the user does not say: copies of large images take their time.
const UPDATE: Duration = Duration::from_secs(60 * 60);

impl ImageResource {
    pub(super) async fn update_image(
        &self,
        request: UpdateRequest<ImageModel>,
        state: &mut StateSink<ImageModel>,
        diags: &mut Diagnostics,
    ) -> Result<(), Diagnostics> {
        let backends = self.provider.require()?;
        let UpdateRequest { prior, planned: mut model, private: kept, cancel, .. } = request;
        prior.object().is_here(&backends)?;
        let private = Private::read(&kept);
        let limit = Timeouts::of(&model.timeouts, Operation::Update, UPDATE);
        let time = Time::of(&cancel, limit, "update");
        prior.object().check_account(&backends, private.account.as_deref(), &time).await?;
        let images = self.images(&backends, &model, &private)?;
        let private = known(private, &kept, images.as_ref(), &prior, &time).await?;
        if private.adopted {
            model.tags_all = prior.tags_all;
        } else {
            let id = model.image_id.clone().unwrap_or_default();
            let holder = private.holder();
            let change = Update { backends: &backends, images: images.as_ref(), id, prior, holder, time };
            change.run(&mut model, diags).await?;
        }
        state.set_private(Private { imported: false, aged: false, ..private }.write());
        state.set(model);
        Ok(())
    }
}

/// One change of an image that is ours.
struct Update<'a> {
    backends: &'a Backends,
    images: &'a dyn ImageBackend,
    id: String,
    prior: ImageModel,
    holder: Option<Holder>,
    time: Time,
}

impl Update<'_> {
    async fn run(&self, model: &mut ImageModel, diags: &mut Diagnostics) -> Result<(), Diagnostics> {
        let tagging = &self.backends.tagging;
        let (mut before, mut after) = (self.prior.settings(tagging), model.settings(tagging));
        before.labels.tags = tagging.managed(self.prior.tags_all.clone().unwrap_or_default());
        after.labels.tags = tagging.managed(after.labels.tags);
        self.relabel(&relabelling(&before, &after), model).await?;
        model.tags_all = Attr::Known(after.labels.tags.clone());
        if before.distribution != after.distribution {
            diags.extend(self.redistribute(&before, &after, model).await?);
        }
        // The rest was promised as it was, whatever came to pass: the next Read takes it in.
        if model.artifacts.is_unknown() {
            model.observe_artifacts(&self.image().await?);
        }
        Ok(())
    }

    async fn relabel(&self, change: &LabelChange, model: &ImageModel) -> Result<(), Diagnostic> {
        let kept = Some(inputs::store(model));
        let changed =
            self.time.run(|cancel| async move { self.images.change(&self.id, change, kept, &cancel).await });
        changed.await.map_err(|failure| unchanged(&failure))
    }

    /// Tells what was not done, and takes in how the image is then.
    async fn redistribute(
        &self,
        before: &Settings,
        after: &Settings,
        model: &mut ImageModel,
    ) -> Result<Vec<Diagnostic>, Diagnostics> {
        let spreading = Spreading {
            backends: self.backends,
            images: self.images,
            id: &self.id,
            model,
            holder: self.holder.clone(),
            tags: &after.labels.tags,
        };
        let done = spreading.within(&self.time, &before.distribution, &after.distribution);
        let problems = done.await.map_err(|failure| unchanged(&failure))?;
        if problems.is_empty() {
            return Ok(Vec::new());
        }
        let image = self.image().await?;
        let cloud = model.section().map(ImageSection::cloud).unwrap_or_default();
        let share = format!("{cloud}.share");
        if problems.iter().any(|one| one.attribute.starts_with(&share)) {
            model.keep_shares(&self.prior);
        }
        observe(self.images, &image, model, &self.time).await?;
        Ok(problems.into_iter().map(|problem| undistributed(problem, Diagnostic::error)).collect())
    }

    /// The image as it is now.
    async fn image(&self) -> Result<Image, Diagnostic> {
        let image = self.time.last(&format!("reading image {}", self.id), self.images.get(&self.id)).await;
        image.map_err(|failure| failure.diagnostic("Image not readable", "update"))
    }
}

fn unchanged(failure: &Failure) -> Diagnostic {
    failure.diagnostic("Image not changed", "update")
}

/// What becomes of the labels. Copies that the plan removes keep theirs.
fn relabelling(prior: &Settings, planned: &Settings) -> LabelChange {
    let leaves = prior.distribution.regions.difference(&planned.distribution.regions);
    LabelChange { leaves: leaves.cloned().collect(), ..LabelChange::between(&prior.labels, &planned.labels) }
}
