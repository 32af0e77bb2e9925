//! Claims that no state came to know of: the apply that made them was killed.

use tokio_util::sync::CancellationToken;

use super::recover::OfImage;
use super::{How, Kind, Remain, SweepError, Swept};
use crate::backends::aws::image::{DeleteError, delete_copies_of, is_there, others_of, withdraw};
use crate::backends::aws::region::Region;
use crate::backends::aws::{Aws, AwsError, tags};
use crate::domain::Copies;
use crate::journal::Entry;

/// Takes the claim off, and tells whether the image stays, for others to find. An image that only its holder was to have goes
/// then, its copies first.
pub(super) async fn give_up(
    aws: &Aws,
    entry: &Entry,
    image_id: &str,
    how: How,
    cancel: &CancellationToken,
) -> Result<OfImage, SweepError> {
    let region = aws.region(Some(&entry.region)).await?;
    let Some(ami) = region.fresh_image(image_id).await?.filter(is_there) else {
        return Ok(OfImage::default());
    };
    let image = Remain {
        kind: Kind::Image,
        id: image_id.to_owned(),
        region: entry.region.clone(),
        build: entry.build.to_string(),
    };
    if how == How::DryRun {
        let stays = entry.share || others_of(&region, image_id, Some(&entry.holder)).await? > 0;
        let swept = if stays { Swept::Unclaimed(image) } else { Swept::Removed(image) };
        return Ok(OfImage { swept: Some(swept), stays, is_all: false });
    }
    untag(&region, image_id, tags::held_by(&entry.holder).0).await?;
    let unclaimed = OfImage { swept: Some(Swept::Unclaimed(image)), stays: true, is_all: false };
    if entry.share || others_of(&region, image_id, Some(&entry.holder)).await? > 0 {
        return Ok(unclaimed);
    }
    let deleted = delete_copies_of(aws, &region, &ami, &Copies::new(), cancel).await;
    deleted.map_err(|error| match error {
        DeleteError::Aws(error) => SweepError::Aws(error),
        DeleteError::Cancelled { .. } => SweepError::Cancelled,
        other => SweepError::Stays { what: format!("a copy of image {image_id}"), why: other.to_string() },
    })?;
    // Copies take their time, and who asks for the same key may have taken it meanwhile.
    let others = withdraw(&region, &ami, entry.key.as_str(), Some(&entry.holder)).await?;
    Ok(if others > 0 { unclaimed } else { OfImage::default() })
}

async fn untag(region: &Region, image_id: &str, key: String) -> Result<(), AwsError> {
    match region.untag([image_id], [key]).await {
        Err(error) if error.is_gone() => Ok(()),
        other => other,
    }
}
