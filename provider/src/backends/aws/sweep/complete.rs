//! What makes a build's things no longer overdue: an image gets complete (its tags, the key last, for with the key it is
//! found), a builder is kept.

use uuid::Uuid;

use super::look::{self, Wanted};
use crate::backends::aws::image::snapshots_of;
use crate::backends::aws::region::Region;
use crate::backends::aws::{Aws, AwsError, tags};
use crate::domain::Holder;
use crate::journal::Entry;

/// Gives the image of an entry its tags, its holder and its key. Then it has no deadline any more: nobody who looks for
/// what is overdue looks at it.
///
/// # Errors
/// When AWS refuses: without a key the image is not complete.
pub(in crate::backends::aws) async fn complete(
    aws: &Aws,
    entry: &Entry,
    image_id: &str,
    holder: Option<&Holder>,
) -> Result<(), AwsError> {
    let region = aws.region(Some(&entry.region)).await?;
    let claimed = |holder| tags::held_until(holder, entry.deadline);
    region.tag([image_id], entry.tags.clone().into_iter().chain(holder.map(claimed))).await?;
    region.tag([image_id], [(tags::KEY.to_owned(), entry.key.as_str().to_owned())]).await?;
    if let Err(error) = without_deadline(&region, image_id).await {
        // Its key protects it just as well.
        tracing::warn!(image = image_id, %error, "the deadline of a complete image cannot be taken off");
    }
    Ok(())
}

async fn without_deadline(region: &Region, id: &str) -> Result<(), AwsError> {
    let Some(ami) = region.fresh_image(id).await? else { return Ok(()) };
    let mut objects = snapshots_of(&ami);
    objects.push(id.to_owned());
    region.untag(objects, [tags::DEADLINE]).await?;
    region.fresh_image(id).await.map(drop)
}

impl Aws {
    /// Takes the deadline off all that there is of a build, which stays until somebody sweeps: other computers are to
    /// leave it alone.
    ///
    /// # Errors
    /// When AWS refuses: with a deadline it is removed once that has passed.
    pub async fn keep(&self, region: &str, build: Uuid) -> Result<(), AwsError> {
        let region = self.region(Some(region)).await?;
        let mut wanted = Wanted { build: build.to_string(), ..Wanted::default() };
        let things: Vec<String> =
            look::of_build(&region, &mut wanted).await?.into_iter().map(|thing| thing.id).collect();
        if things.is_empty() { Ok(()) } else { region.untag(things, [tags::DEADLINE]).await }
    }
}
