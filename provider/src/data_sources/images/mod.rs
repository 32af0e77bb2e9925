//! `data "sindri_images"`: all images that Sindri made on one cloud.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use tfplugin::{Attr, CancellationToken, DataSource, Diagnostics, Model, Path};

use crate::backends::{About, CLOUDS, LOCAL};
use crate::configured::Configured;
use crate::diagnose;
use crate::domain::rules::one_of;
use crate::domain::tagging::Unknown;
use crate::domain::{Image, Tagging, unless_cancelled};

/// All images that Sindri made on one cloud, the newest first.
#[derive(Debug, Clone, Default, Model)]
pub struct ImagesModel {
    /// Where to look: `"qemu"`, this computer, or `"aws"`.
    #[attr(required, validate = cloud)]
    pub cloud: Attr<String>,
    /// In which region of the cloud; the provider's when not set.
    #[attr(optional, validate = region)]
    pub region: Attr<String>,
    /// Only images that were made with this `name_prefix`.
    #[attr(optional)]
    pub name_prefix: Attr<String>,
    /// Only images with these tags.
    #[attr(optional)]
    pub tags: Attr<BTreeMap<String, String>>,
    /// Only images of this channel.
    #[attr(optional)]
    pub channel: Attr<String>,
    /// Only images with this cache key.
    #[attr(optional)]
    pub cache_key: Attr<String>,
    /// The images, the newest first.
    #[attr(computed)]
    pub images: Attr<Vec<FoundImageModel>>,
}

/// An image as the data sources show it.
#[derive(Debug, Clone, Default, Model)]
pub struct FoundImageModel {
    /// The image's own id, to be given to `sindri_vm`.
    #[attr(computed)]
    pub image_id: Attr<String>,
    /// The image's full name.
    #[attr(computed)]
    pub image_name: Attr<String>,
    /// `"available"`, or `"altered"` when the disk is not what was built.
    #[attr(computed)]
    pub state: Attr<String>,
    /// What the image was built from.
    #[attr(computed)]
    pub cache_key: Attr<String>,
    /// What it is, for people.
    #[attr(computed)]
    pub description: Attr<String>,
    /// Its tags.
    #[attr(computed)]
    pub tags: Attr<BTreeMap<String, String>>,
    /// What it is promoted to.
    #[attr(computed)]
    pub channels: Attr<BTreeSet<String>>,
    /// What the requested base turned out to be.
    #[attr(computed)]
    pub resolved_base: Attr<String>,
    /// When it was finished, in RFC 3339.
    #[attr(computed)]
    pub created_at: Attr<String>,
    /// Bytes that it takes up where it is stored.
    #[attr(computed)]
    pub size_bytes: Attr<u64>,
    /// The disk's file, for an image on this computer.
    #[attr(computed)]
    pub path: Attr<String>,
    /// The disk's format.
    #[attr(computed)]
    pub format: Attr<String>,
    /// SHA-256 of the disk's file, in lower-case hex.
    #[attr(computed)]
    pub sha256: Attr<String>,
}

impl From<&Image> for FoundImageModel {
    fn from(image: &Image) -> Self {
        let disk = image.disk.as_ref();
        let intact = disk.is_none_or(|disk| disk.intact);
        Self {
            image_id: image.id.as_str().into(),
            image_name: image.name.as_str().into(),
            state: if intact { "available" } else { "altered" }.into(),
            cache_key: image.key.as_ref().map(|key| key.as_str().to_owned()).into(),
            description: image.labels.description.clone().into(),
            tags: Attr::Known(image.labels.tags.clone()),
            channels: Attr::Known(image.labels.channels.clone()),
            resolved_base: image.resolved_base.clone().into(),
            created_at: image.created_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true).into(),
            size_bytes: image.size_bytes.into(),
            path: disk.map(|disk| disk.path.display().to_string()).into(),
            format: disk.map(|disk| disk.format.clone()).into(),
            sha256: disk.map(|disk| disk.sha256.clone()).into(),
        }
    }
}

/// What narrows a search.
#[derive(Debug, Default)]
pub(super) struct Filter<'a> {
    name_prefix: Option<&'a str>,
    tags: Option<&'a BTreeMap<String, String>>,
    channel: Option<&'a str>,
    cache_key: Option<&'a str>,
}

impl<'a> Filter<'a> {
    pub(super) fn of(
        name_prefix: &'a Attr<String>,
        tags: &'a Attr<BTreeMap<String, String>>,
        channel: &'a Attr<String>,
        cache_key: &'a Attr<String>,
    ) -> Self {
        Self {
            name_prefix: name_prefix.known_deref(),
            tags: tags.known(),
            channel: channel.known_deref(),
            cache_key: cache_key.known_deref(),
        }
    }

    fn takes(&self, image: &Image) -> bool {
        let key = image.key.as_ref().map(crate::domain::CacheKey::as_str);
        self.name_prefix.is_none_or(|prefix| image.prefix() == prefix)
            && self.channel.is_none_or(|channel| image.labels.channels.contains(channel))
            && self.cache_key.is_none_or(|wanted| key == Some(wanted))
            && self.tags.into_iter().flatten().all(|(key, value)| image.labels.tags.get(key) == Some(value))
    }
}

pub(super) fn cloud(name: &str) -> Result<(), String> {
    one_of(name, &CLOUDS.iter().map(|cloud| cloud.name).collect::<Vec<_>>())
}

pub(super) fn region(name: &str) -> Result<(), String> {
    About::check_region(name)
}

/// Only a cloud with regions has some.
pub(super) fn check_region(cloud: &Attr<String>, region: &Attr<String>, diags: &mut Diagnostics) {
    if region.is_known() && cloud.known_deref() == Some(LOCAL) {
        let text = "This computer has no regions: leave it out.";
        diags.error(Path::from("region"), "Not for this cloud", text);
    }
}

/// Images of a cloud that a filter takes, the newest first.
pub(super) async fn search(
    provider: &Configured,
    cloud: &Attr<String>,
    region: &Attr<String>,
    filter: &Filter<'_>,
    cancel: &CancellationToken,
) -> Result<Vec<Image>, Diagnostics> {
    let backends = provider.require()?;
    if backends.tagging.unknown == Unknown::Ignored {
        return Err(Configured::unknown());
    }
    let cloud = cloud.known_deref().unwrap_or_default();
    let Some(images) = backends.images(cloud, region.known_deref()) else { return Ok(Vec::new()) };
    let all = unless_cancelled("listing images", images.list(), cancel).await;
    let all = all.map_err(|error| diagnose::backend("Images not listed", &error))?;
    let found = all.into_iter().rev().filter(|image| filter.takes(image));
    Ok(found.map(|image| shown(image, &backends.tagging)).collect())
}

/// Without the tags that are left alone.
fn shown(mut image: Image, tagging: &Tagging) -> Image {
    image.labels.tags = tagging.managed(image.labels.tags);
    image
}

/// The data source.
#[derive(Debug)]
pub struct ImagesDataSource(Arc<Configured>);

impl ImagesDataSource {
    /// The data source of a provider.
    pub fn new(provider: Arc<Configured>) -> Self {
        Self(provider)
    }
}

#[async_trait]
impl DataSource for ImagesDataSource {
    type Model = ImagesModel;

    fn name(&self) -> &'static str {
        "images"
    }

    async fn validate(&self, config: &ImagesModel, diags: &mut Diagnostics) {
        check_region(&config.cloud, &config.region, diags);
    }

    async fn read(
        &self,
        mut config: ImagesModel,
        cancel: CancellationToken,
        _diags: &mut Diagnostics,
    ) -> Result<ImagesModel, Diagnostics> {
        let filter = Filter::of(&config.name_prefix, &config.tags, &config.channel, &config.cache_key);
        let found = search(&self.0, &config.cloud, &config.region, &filter, &cancel).await?;
        config.images = Attr::Known(found.iter().map(FoundImageModel::from).collect());
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CacheKey, Labels};

    fn named(name: &str) -> Image {
        Image {
            id: "1".into(),
            name: name.into(),
            key: CacheKey::try_from("a".repeat(63)).ok(),
            artifacts: BTreeMap::new(),
            unfinished: BTreeSet::new(),
            labels: Labels::default(),
            resolved_base: None,
            created_at: chrono::Utc::now(),
            build_seconds: None,
            size_bytes: 0,
            log_path: None,
            disk: None,
            made: Vec::new(),
        }
    }

    #[test]
    fn a_prefix_is_a_whole_one() {
        for (name, taken) in [
            ("web-aaaaaaaaaaaa-0a1b2c", true),
            ("web-api-aaaaaaaaaaaa-0a1b2c", false),
            ("website-aaaaaaaaaaaa-0a1b2c", false),
            ("web", true),
            ("web-bbbbbbbbbbbb-0a1b2c", false),
        ] {
            let filter = Filter { name_prefix: Some("web"), ..Filter::default() };
            assert_eq!(filter.takes(&named(name)), taken, "{name}");
        }
    }
}
