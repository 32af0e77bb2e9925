//! Taking an image into state that is there already.

use tfplugin::{CancellationToken, Diagnostic, Diagnostics, State};

use super::ImageResource;
use super::model::{ImageModel, Origin};
use super::private::Private;
use super::read::READ;
use crate::backends::{CLOUDS, ImportId, LOCAL, LOCAL_REGION};
use crate::diagnose;
use crate::domain::BackendError;
use crate::resources::deadline::Time;
use crate::resources::{account, inputs};

impl ImageResource {
    pub(super) async fn import_image(&self, id: &str) -> Result<State<ImageModel>, Diagnostics> {
        let backends = self.provider.require()?;
        let wrong = || {
            let text = format!(
                "{id:?} is not what can be imported: write {}, with an id that the data source `sindri_images` lists.",
                CLOUDS.iter().map(|cloud| cloud.image_id).collect::<Vec<_>>().join(" or ")
            );
            Diagnostic::error("Invalid import id", text)
        };
        let ImportId { cloud, region, id: image_id } = ImportId::parse(id).ok_or_else(wrong)?;
        let images = backends.images(cloud, region).ok_or_else(wrong)?;
        let missing = |error: BackendError| diagnose::backend("Image not imported", &error);
        let image = images.get(image_id).await.map_err(missing)?;
        let kept = images.inputs(image_id).await.map_err(missing)?;
        let imported = kept.is_null();
        let region = region.unwrap_or(LOCAL_REGION);
        let mut model =
            if imported { ImageModel::imported(&image, cloud, region) } else { inputs::restore(&kept)? };
        model.observe(&image, cloud, region);
        model.origin = Origin::Imported.name().into();
        model.cache_key = image.key.as_ref().map(|key| key.as_str().to_owned()).into();
        if cloud == LOCAL {
            model.store_id = backends.local.store.id().ok().flatten().into();
        }
        model.import_labels(&image, &backends.tagging);
        // In a store of this computer a single claim is that of the resource which lost the image from its state; of
        // several, others live. In a cloud, a single one may as well be that of a state elsewhere that lives.
        let holder = match images.holders(image_id).await.map_err(missing)?.as_slice() {
            [only] if cloud == LOCAL => Some(only.to_string()),
            _ => None,
        };
        let sha256 = image.disk.map(|disk| disk.sha256);
        let time = Time::of(&CancellationToken::new(), READ, "read");
        let account = account::current(&backends, cloud, &time).await;
        let private = Private { holder, sha256, imported, account, ..Private::default() };
        Ok(State { model, private: Some(private.write()) })
    }
}
