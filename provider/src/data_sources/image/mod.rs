//! `data "sindri_image"`: the newest image for a key, a channel, or a name prefix and tags.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use tfplugin::{Attr, CancellationToken, DataSource, Diagnostic, Diagnostics, Model};

use super::images::{Filter, FoundImageModel, check_region, cloud, region, search};
use crate::configured::Configured;

/// The newest image that Sindri made and that a filter takes. It is an error if there is none.
#[derive(Debug, Clone, Default, Model)]
pub struct ImageModel {
    /// Where to look: `"qemu"`, this computer, or `"aws"`.
    #[attr(required, validate = cloud)]
    pub cloud: Attr<String>,
    /// In which region of the cloud; the provider's when not set.
    #[attr(optional, validate = region)]
    pub region: Attr<String>,
    /// The image was made with this `name_prefix`.
    #[attr(optional)]
    pub name_prefix: Attr<String>,
    /// The image has these tags.
    #[attr(optional)]
    pub tags: Attr<BTreeMap<String, String>>,
    /// The image is of this channel.
    #[attr(optional)]
    pub channel: Attr<String>,
    /// The image has this cache key.
    #[attr(optional)]
    pub cache_key: Attr<String>,
    /// The image's own id, to be given to `sindri_vm`.
    #[attr(computed)]
    pub image_id: Attr<String>,
    /// All that is known of the image.
    #[attr(computed)]
    pub image: Attr<FoundImageModel>,
}

/// The data source.
#[derive(Debug)]
pub struct ImageDataSource(Arc<Configured>);

impl ImageDataSource {
    /// The data source of a provider.
    pub fn new(provider: Arc<Configured>) -> Self {
        Self(provider)
    }
}

#[async_trait]
impl DataSource for ImageDataSource {
    type Model = ImageModel;

    fn name(&self) -> &'static str {
        "image"
    }

    async fn validate(&self, config: &ImageModel, diags: &mut Diagnostics) {
        check_region(&config.cloud, &config.region, diags);
        let narrowed = !config.name_prefix.is_null()
            || !config.tags.is_null()
            || !config.channel.is_null()
            || !config.cache_key.is_null();
        if !narrowed {
            let text = "Set at least one of `cache_key`, `channel`, `name_prefix` and `tags`: the newest of all images is hardly what you mean.";
            diags.push(Diagnostic::error("No filter", text));
        }
    }

    async fn read(
        &self,
        mut config: ImageModel,
        cancel: CancellationToken,
        _diags: &mut Diagnostics,
    ) -> Result<ImageModel, Diagnostics> {
        let filter = Filter::of(&config.name_prefix, &config.tags, &config.channel, &config.cache_key);
        let found = search(&self.0, &config.cloud, &config.region, &filter, &cancel).await?;
        let sound = |image: &&crate::domain::Image| image.disk.as_ref().is_none_or(|disk| disk.intact);
        let Some(newest) = found.iter().find(sound) else {
            let (backends, cloud) = (self.0.require()?, config.cloud.known_deref().unwrap_or_default());
            let place = backends.place(cloud, config.region.known_deref()).await;
            let text = format!(
                "No image that Sindri made fits the filter {place}. The data source `sindri_images` lists all there are; an image that this configuration builds is better taken from its resource."
            );
            return Err(Diagnostic::error("No such image", text).into());
        };
        config.image_id = newest.id.as_str().into();
        config.image = Attr::Known(newest.into());
        Ok(config)
    }
}
