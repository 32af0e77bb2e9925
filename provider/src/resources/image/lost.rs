//! An image that is gone while copies of it in other regions, or its snapshots, are not. The object stays in state, and the
//! plan replaces it: deleting it removes them. Forgotten, they would cost money for ever.

use std::collections::BTreeMap;

use tfplugin::{Attr, Diagnostic, Diagnostics};

use super::model::{ImageModel, Origin};
use crate::backends::{About, Backends, LOCAL};
use crate::resources::deadline::Time;

/// The object with what is left of it; none when nothing is.
pub(super) async fn keep_copies(
    backends: &Backends,
    mut model: ImageModel,
    time: &Time,
    diags: &mut Diagnostics,
) -> Result<Option<ImageModel>, Diagnostics> {
    let cloud = model.cloud.clone().into_known().unwrap_or_else(|| LOCAL.to_owned());
    let mut left = BTreeMap::new();
    for (region, id) in model.copies() {
        let Some(images) = backends.images(&cloud, Some(&region)) else { continue };
        match time.look(&format!("reading image {id}"), images.get(&id)).await {
            Ok(_) => left.insert(region, id),
            Err(failure) if failure.error.is_not_found() => None,
            Err(failure) => {
                return Err(failure.diagnostic("Copy of an image not readable", time.timeout).into());
            }
        };
    }
    let id = model.image_id.known_deref().unwrap_or_default();
    let mut list: Vec<_> = left.iter().map(|(region, id)| format!("copy {id} in {region}")).collect();
    if let Some(images) = backends.images(&cloud, model.region.known_deref()) {
        let remains = time.look(&format!("looking for what image {id} left"), images.remains(id)).await;
        list.extend(remains.map_err(|failure| failure.diagnostic("Image not readable", time.timeout))?);
    }
    if list.is_empty() {
        return Ok(None);
    }
    // Destroy deletes nothing of an image that somebody else manages.
    let becomes = if model.origin.known_deref() == Some(Origin::Existing.name()) {
        "It is somebody else's, and so is what is left: nothing of it is deleted. Name another image in `existing_image_id`, or drop the resource."
    } else {
        "The plan replaces the image, and what is left goes with it."
    };
    let text = format!("Image {id} is gone. This is not: {}. {becomes}", list.join(", "));
    diags.push(Diagnostic::warning("Image is gone, something is left", text));
    if let Attr::Known(artifacts) = &mut model.artifacts {
        artifacts.retain(|region, _| left.contains_key(region));
    }
    Ok(Some(model))
}

/// Whether the image itself is not there any more.
pub(super) fn is_lost(model: &ImageModel) -> bool {
    let (Some(artifacts), Some(region)) = (model.artifacts.known(), model.region.known()) else {
        return false;
    };
    model.cloud.known_deref().is_some_and(About::has_regions) && !artifacts.contains_key(region)
}
