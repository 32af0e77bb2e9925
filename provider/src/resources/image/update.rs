//! Changing an image in place: its labels, what is kept with it, and where it is.

use std::time::Duration;

use tfplugin::{Attr, Diagnostic, Diagnostics, Operation, StateSink, Timeouts, UpdateRequest};

use super::model::{ImageModel, Settings};
use super::private::Private;
use super::spread::Spreading;
use super::{ImageResource, check_account, is_here, known, observe, undistributed};
use crate::backends::ImageSection;
use crate::domain::LabelChange;
use crate::resources::deadline::Time;
use crate::resources::inputs;

/// How long a change may take when the user does not say: copies of large images take their time.
const UPDATE: Duration = Duration::from_secs(60 * 60);

impl ImageResource {
    pub(super) async fn bring(
        &self,
        request: UpdateRequest<ImageModel>,
        state: &mut StateSink<ImageModel>,
        diags: &mut Diagnostics,
    ) -> Result<(), Diagnostics> {
        let backends = self.provider.require()?;
        is_here(&backends, &request.prior)?;
        let mut model = request.planned;
        let tagging = &backends.tagging;
        let mut settings = model.settings(tagging);
        settings.labels.tags = tagging.managed(settings.labels.tags);
        let private = Private::read(&request.private);
        let limit = Timeouts::of(&model.timeouts, Operation::Update, UPDATE);
        let time = Time::of(&request.cancel, limit, "update");
        check_account(&backends, &request.prior, &private, &time).await?;
        let images = self.images(&backends, &model, &private)?;
        let private = known(private, &request.private, images.as_ref(), &request.prior, &time).await?;
        if !private.adopted {
            let mut prior = request.prior.settings(tagging);
            prior.labels.tags = tagging.managed(request.prior.tags_all.clone().unwrap_or_default());
            let change = relabelling(&prior, &settings);
            let id = model.image_id.known().cloned().unwrap_or_default();
            let changed = time.run(|cancel| {
                let (images, id, change, kept) = (&images, &id, &change, Some(inputs::store(&model)));
                async move { images.change(id, change, kept, &cancel).await }
            });
            changed.await.map_err(|failure| failure.diagnostic("Image not changed", "update"))?;
            model.tags_all = Attr::Known(settings.labels.tags.clone());
            let (from, to) = (&prior.distribution, &settings.distribution);
            if from != to {
                let spreading = Spreading {
                    backends: &backends,
                    images: images.as_ref(),
                    id: &id,
                    model: &model,
                    holder: private.holder(),
                    tags: &settings.labels.tags,
                    limit: time.left(),
                };
                let done = time.run(|cancel| {
                    let spreading = &spreading;
                    async move { spreading.bring(from, to, &cancel).await }
                });
                let problems =
                    done.await.map_err(|failure| failure.diagnostic("Image not changed", "update"))?;
                if !problems.is_empty() {
                    let image = time.last(&format!("reading image {id}"), images.get(&id)).await;
                    let image =
                        image.map_err(|failure| failure.diagnostic("Image not readable", "update"))?;
                    let cloud = model.section().map(ImageSection::cloud).unwrap_or_default();
                    let share = format!("{cloud}.share");
                    if problems.iter().any(|one| one.attribute.starts_with(&share)) {
                        model.keep_shares(&request.prior);
                    }
                    observe(images.as_ref(), &image, &mut model, &time).await?;
                    diags.extend(
                        problems.into_iter().map(|problem| undistributed(problem, Diagnostic::error)),
                    );
                }
            }
            // The rest was promised as it was, whatever came to pass: the next Read takes it in.
            if model.artifacts.is_unknown() {
                let image = time.last(&format!("reading image {id}"), images.get(&id)).await;
                let image = image.map_err(|failure| failure.diagnostic("Image not readable", "update"))?;
                model.observe_artifacts(&image);
            }
        } else {
            model.tags_all = request.prior.tags_all;
        }
        state.set_private(Private { imported: false, aged: false, ..private }.write());
        state.set(model);
        Ok(())
    }
}

/// What becomes of the labels. Copies that the plan removes keep theirs.
fn relabelling(prior: &Settings, planned: &Settings) -> LabelChange {
    let leaves = prior.distribution.regions.difference(&planned.distribution.regions);
    LabelChange { leaves: leaves.cloned().collect(), ..LabelChange::between(&prior.labels, &planned.labels) }
}
