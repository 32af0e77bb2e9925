//! An image that is gone while copies of it in other regions are not. They stay in state, and the plan replaces the
//! object: deleting it removes them. Forgotten, they would cost money for ever.

use std::collections::BTreeMap;

use tfplugin::{Attr, Diagnostic, Diagnostics};

use super::model::ImageModel;
use crate::backends::{Backends, qemu, template};
use crate::resources::diagnose;

/// The object with what is left of it; none when nothing is.
pub(super) async fn keep_copies(
    backends: &Backends,
    mut model: ImageModel,
    diags: &mut Diagnostics,
) -> Result<Option<ImageModel>, Diagnostics> {
    let cloud = model.cloud.clone().into_known().unwrap_or_else(|| qemu::CLOUD.to_owned());
    let mut left = BTreeMap::new();
    for (region, id) in model.copies() {
        let Some(images) = backends.images(&cloud, Some(&region)) else { continue };
        match images.get(&id).await {
            Ok(_) => left.insert(region, id),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(diagnose::backend("Copy of an image not readable", &error).into()),
        };
    }
    if left.is_empty() {
        return Ok(None);
    }
    let list: Vec<_> = left.iter().map(|(region, id)| format!("{id} in {region}")).collect();
    let id = model.image_id.known_deref().unwrap_or_default();
    let text = format!(
        "Image {id} is gone. Its copies are not: {}. The plan replaces the image, and its copies with it.",
        list.join(", ")
    );
    diags.push(Diagnostic::warning("Image is gone, copies are left", text));
    if let Attr::Known(artifacts) = &mut model.artifacts {
        artifacts.retain(|region, _| left.contains_key(region));
    }
    Ok(Some(model))
}

/// Whether only copies of the image are left.
pub(super) fn is_lost(model: &ImageModel) -> bool {
    if model.cloud.known_deref() == Some(template::CLOUD) {
        return false;
    }
    let (Some(artifacts), Some(region)) = (model.artifacts.known(), model.region.known()) else {
        return false;
    };
    !artifacts.is_empty() && !artifacts.contains_key(region)
}
