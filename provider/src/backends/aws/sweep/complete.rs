//! What makes a build's things no longer overdue: an image gets complete (its tags, the key last, for with the key it is
//! found), a builder is kept.

use aws_sdk_ec2::types::Image as Ami;
use uuid::Uuid;

use super::look::{self, Wanted};
use crate::backends::aws::image::snapshots_of;
use crate::backends::aws::{Aws, AwsError, tags};
use crate::domain::Holder;
use crate::journal::Entry;

/// Gives the image of an entry its tags, its holder and its key. Then it has no deadline any more: nobody who looks for
/// what is overdue looks at it. `ami` is the image as it was when it was available: its snapshots are the same since.
/// Returns it as it is then; none when it is gone.
///
/// # Errors
/// When AWS refuses: without a key the image is not complete.
pub(in crate::backends::aws) async fn complete(
    aws: &Aws,
    entry: &Entry,
    ami: &Ami,
    holder: Option<&Holder>,
) -> Result<Option<Ami>, AwsError> {
    let image_id = ami.image_id().unwrap_or_default();
    let region = aws.region(Some(&entry.region)).await?;
    let claimed = |holder| tags::held_until(holder, entry.deadline);
    region.tag([image_id], entry.tags.clone().into_iter().chain(holder.map(claimed))).await?;
    region.tag([image_id], [(tags::KEY.to_owned(), entry.key.as_str().to_owned())]).await?;
    let mut objects = snapshots_of(ami);
    objects.push(image_id.to_owned());
    if let Err(error) = region.untag(objects, [tags::DEADLINE]).await {
        // Its key protects it just as well.
        tracing::warn!(image = image_id, %error, "the deadline of a complete image cannot be taken off");
    }
    region.fresh_image(image_id).await
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
