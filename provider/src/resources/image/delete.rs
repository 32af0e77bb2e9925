//! Letting go of an image, which deletes it when nobody else needs it.

use std::time::Duration;

use tfplugin::{DeleteRequest, Diagnostic, Diagnostics, Operation, Timeouts};

use super::model::{ImageModel, Origin};
use super::private::Private;
use super::{ImageResource, known};
use crate::domain::Released;
use crate::resources::deadline::Time;

/// How long a deletion may take when the user does not say.
const DELETE: Duration = Duration::from_secs(15 * 60);

impl ImageResource {
    pub(super) async fn delete_image(
        &self,
        request: DeleteRequest<ImageModel>,
        diags: &mut Diagnostics,
    ) -> Result<(), Diagnostics> {
        let DeleteRequest { prior, private: kept, cancel } = request;
        let private = Private::read(&kept);
        let Some(id) = prior.image_id.known() else { return Ok(()) };
        if private.adopted || prior.origin.known_deref() == Some(Origin::Existing.name()) {
            return Ok(());
        }
        if private.moved {
            let text = "This object was taken over from `packer_image`, which does not tell what was built. Nothing is deleted: look for what its builds have made.";
            diags.push(Diagnostic::warning("Nothing known of the image", text));
            return Ok(());
        }
        let backends = self.provider.require()?;
        if !prior.object().is_here(&backends)? {
            return Ok(());
        }
        let limit = Timeouts::of(&prior.timeouts, Operation::Delete, DELETE);
        let time = Time::of(&cancel, limit, "delete");
        prior.object().check_account(&backends, private.account.as_deref(), &time).await?;
        let images = self.images(&backends, &prior, &private)?;
        let private = known(private, &kept, images.as_ref(), &prior, &time).await?;
        let retain = prior.retain_on_destroy.unwrap_or(false);
        let (holder, copies) = (private.holder(), prior.copies());
        let released = time.run(|cancel| {
            let (images, holder, copies) = (&images, holder.as_ref(), &copies);
            async move { images.release(id, holder, retain, copies, &cancel).await }
        });
        match released.await {
            Ok(released) => {
                let left = Left { id, has_claim: holder.is_some(), is_of_template: !prior.packer.is_null() };
                diags.extend(left.tell(released));
                Ok(())
            }
            Err(failure) if failure.error.is_not_found() => Ok(()),
            Err(failure) => Err(failure.diagnostic("Image not deleted", "delete").into()),
        }
    }
}

/// An image that was let go.
struct Left<'a> {
    id: &'a str,
    /// Whether we held it.
    has_claim: bool,
    is_of_template: bool,
}

impl Left<'_> {
    /// What the user should know of what is still there.
    fn tell(&self, released: Released) -> Option<Diagnostic> {
        let id = self.id;
        let (summary, text) = match released {
            Released::Retained => return None,
            Released::Deleted { left } if left.is_empty() => return None,
            Released::LetGo { what } if what.is_empty() => return None,
            Released::Deleted { left } => {
                let why = if self.is_of_template { "" } else { ", because others use them" };
                let text = format!("Image {id} is deleted. These stay{why}:\n{}", left.join("\n"));
                ("Something of the image stays", text)
            }
            Released::Held { others } => {
                let mut text = format!(
                    "Image {id} stays: {others} other resource(s) that share it still need it. The last of them deletes it."
                );
                if !self.has_claim {
                    text.push_str(" This one was imported and has no claim on it: a claim that a lost state left has to be taken off by hand.");
                }
                ("Image still in use", text)
            }
            Released::Forbidden { what, why } => {
                let text = format!(
                    "Nobody holds image {id} any more, and these credentials may not delete it: {why}\nIt stays, and costs:\n{}\nWho may delete it removes it by hand, or applies this configuration, which finds the image, and destroys that. With `retain_on_destroy = true` an image is left without being deleted.",
                    what.join("\n")
                );
                ("Image not deleted", text)
            }
            Released::LetGo { what } => {
                let text = format!(
                    "Image {id} was built by another configuration, and this computer has no record of who else uses it. Nothing is deleted. There is:\n{}",
                    what.join("\n")
                );
                ("Image left as it is", text)
            }
        };
        Some(Diagnostic::warning(summary, text))
    }
}
