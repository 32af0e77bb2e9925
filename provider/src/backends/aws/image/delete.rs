//! Deletes an image with its copies and their snapshots: copies first, so that a failure leaves the record of
//! what there is still to delete.

use aws_sdk_ec2::types::Image as Ami;

use super::{copy, read};
use crate::backends::aws::region::Region;
use crate::backends::aws::{Aws, AwsError, tags};
use crate::domain::Copies;

/// Codes of snapshots that others use, which is theirs to end.
const IN_USE: [&str; 2] = ["InvalidSnapshot.InUse", "OperationNotPermitted"];

/// Deletes it in every region that it is recorded in: by its tags, and by state. Returns what stays because others use
/// it.
pub(super) async fn everywhere(
    aws: &Aws,
    home: &Region,
    ami: &Ami,
    known: &Copies,
) -> Result<Vec<String>, AwsError> {
    let all = tags::map(ami.tags());
    let recorded: Copies =
        read::copies(&all).map(|(region, id)| (region.to_owned(), id.to_owned())).collect();
    let mut left = Vec::new();
    for (region, id) in &recorded {
        let region = aws.region(Some(region)).await?;
        if let Some(copy) = region.fresh_image(id).await? {
            left.extend(one(&region, &copy).await?);
        }
    }
    left.extend(copies(aws, &copy::origin(home, ami), known).await?);
    left.extend(one(home, ami).await?);
    Ok(left)
}

/// Deletes copies that only state knows of, if they say themselves that they are copies of this image.
pub(super) async fn copies(aws: &Aws, of: &str, known: &Copies) -> Result<Vec<String>, AwsError> {
    let mut left = Vec::new();
    for (region, id) in known {
        let region = aws.region(Some(region)).await?;
        let Some(copy) = region.fresh_image(id).await?.filter(read::is_there) else { continue };
        if tags::map(copy.tags()).get(tags::COPY_OF).is_some_and(|origin| origin == of) {
            left.extend(one(&region, &copy).await?);
        } else {
            left.push(format!("image {id} in {}: it does not say (any more) that it is a copy", region.name));
        }
    }
    Ok(left)
}

/// Deletes one AMI and its snapshots.
pub(super) async fn one(region: &Region, ami: &Ami) -> Result<Vec<String>, AwsError> {
    let id = ami.image_id().unwrap_or_default();
    let done = region.ec2.deregister_image().image_id(id).send().await;
    match done.map_err(|error| AwsError::of("DeregisterImage", error)) {
        Err(error) if error.is_gone() => {}
        other => drop(other?),
    }
    region.image_is_gone(id).await;
    let mut left = Vec::new();
    for snapshot in read::snapshots(ami) {
        let done = region.ec2.delete_snapshot().snapshot_id(&snapshot).send().await;
        match done.map_err(|error| AwsError::of("DeleteSnapshot", error)) {
            Err(error) if error.is_gone() => {}
            Err(AwsError::Refused { code, message, .. }) if IN_USE.contains(&code.as_str()) => {
                left.push(format!("snapshot {snapshot} in {}: {message}", region.name));
            }
            other => drop(other?),
        }
    }
    Ok(left)
}
