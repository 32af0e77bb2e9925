//! Looking at an image: what became of it since.

use std::time::Duration;

use chrono::Utc;
use tfplugin::{Diagnostic, Diagnostics, Operation, ReadRequest, State, Timeouts};

use super::model::ImageModel;
use super::plan::created_at;
use super::private::Private;
use super::{ImageResource, known, lost, observe};
use crate::diagnose;
use crate::domain::BackendError;
use crate::resources::account;
use crate::resources::deadline::{Failure, Time};

/// How long a look may take when the user does not say: an altered disk is hashed.
pub(super) const READ: Duration = Duration::from_secs(15 * 60);

impl ImageResource {
    pub(super) async fn read_image(
        &self,
        request: ReadRequest<ImageModel>,
        diags: &mut Diagnostics,
    ) -> Result<Option<State<ImageModel>>, Diagnostics> {
        let backends = self.provider.require()?;
        let mut model = request.state;
        let Some(id) = model.image_id.known().cloned() else { return Ok(None) };
        self.seen.add(&id);
        if !model.object().is_here(&backends)? {
            return Ok(None);
        }
        let private = Private::read(&request.private);
        if private.moved {
            return Ok(Some(model.into()));
        }
        let images = self.images(&backends, &model, &private)?;
        let limit = Timeouts::of(&model.timeouts, Operation::Read, READ);
        let time = Time::of(&request.cancel, limit, "read");
        match time.look(&format!("reading image {id}"), images.get(&id)).await {
            Ok(image) => {
                let private = known(private, &request.private, images.as_ref(), &model, &time).await?;
                observe(images.as_ref(), &image, &mut model, &time).await?;
                if !private.adopted {
                    model.observe_labels(&image, &backends.tagging);
                }
                let aged = model.settings(&backends.tagging).are_exceeded(created_at(&model), Utc::now());
                let account = match &private.account {
                    Some(account) => Some(account.clone()),
                    None => account::current(&backends, model.object().cloud, &time).await,
                };
                let now = Private { account, aged, ..private.clone() };
                let is_news = now != private || request.private.is_empty();
                Ok(Some(State { model, private: is_news.then(|| now.write()) }))
            }
            Err(failure) if failure.error.is_not_found() => {
                model.object().check_account(&backends, private.account.as_deref(), &time).await?;
                Ok(lost::keep_copies(&backends, model, &time, diags).await?.map(Into::into))
            }
            Err(Failure { error: BackendError::Damaged { source, .. }, .. }) => {
                let text = format!(
                    "{}\nThe image is set aside in `damaged/` under `data_dir` when the next one is built.",
                    diagnose::chain(source.as_ref())
                );
                diags.push(Diagnostic::warning("Damaged image", text));
                Ok(None)
            }
            Err(failure) => Err(failure.diagnostic("Image not readable", "read").into()),
        }
    }
}
