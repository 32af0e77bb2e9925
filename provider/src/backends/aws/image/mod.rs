//! Images on EC2: AMIs that carry our key, found by it, held, relabelled and deleted. How they are built is not
//! known here.

mod delete;
mod read;

pub(super) use read::{copies as copies_of, holders as holders_of, snapshots as snapshots_of};

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_ec2::types::{AttributeValue, Image as Ami, ImageState, Tag};
use serde_json::Value;

use super::region::Region;
use super::{Aws, AwsError, tags};
use crate::domain::{BackendError, CacheKey, Holder, Image, ImageBackend, LabelChange, Released};

/// The images of one region.
#[derive(Debug)]
pub struct AwsImages {
    aws: Arc<Aws>,
    region: Option<String>,
}

impl Aws {
    /// The images of a region.
    pub fn images(self: &Arc<Self>, region: Option<&str>) -> AwsImages {
        AwsImages { aws: Arc::clone(self), region: region.map(str::to_owned) }
    }
}

impl AwsImages {
    async fn region(&self) -> Result<Arc<Region>, AwsError> {
        self.aws.region(self.region.as_deref()).await
    }

    /// All that are complete, the oldest first.
    async fn ours(&self) -> Result<Vec<Image>, AwsError> {
        let region = self.region().await?;
        let all = region.our_images().await?;
        let available = all.iter().filter(|ami| ami.state() == Some(&ImageState::Available));
        let mut images: Vec<Image> = available.map(|ami| read::image(&region.name, ami)).collect();
        images.retain(|image| image.key.is_some());
        images.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(images)
    }

    /// An image as it is in this moment, for a change.
    async fn fresh(&self, id: &str, doing: &str) -> Result<(Arc<Region>, Ami), BackendError> {
        let failed = |error: AwsError| error.into_backend(doing);
        let region = self.region().await.map_err(failed)?;
        match region.fresh_image(id).await.map_err(failed)?.filter(read::is_there) {
            Some(ami) => Ok((region, ami)),
            None => Err(not_found(id)),
        }
    }
}

#[async_trait]
impl ImageBackend for AwsImages {
    async fn find(&self, key: &CacheKey) -> Result<Vec<Image>, BackendError> {
        let ours = self.ours().await.map_err(|error| error.into_backend("looking for the image"))?;
        Ok(ours.into_iter().filter(|image| image.key.as_ref() == Some(key)).collect())
    }

    async fn get(&self, id: &str) -> Result<Image, BackendError> {
        let failed = |error: AwsError| error.into_backend(format!("reading image {id}"));
        let region = self.region().await.map_err(failed)?;
        let ami = region.image(id).await.map_err(failed)?.filter(read::is_there);
        ami.map(|ami| read::image(&region.name, &ami)).ok_or_else(|| not_found(id))
    }

    async fn list(&self) -> Result<Vec<Image>, BackendError> {
        self.ours().await.map_err(|error| error.into_backend("listing images"))
    }

    async fn inputs(&self, _id: &str) -> Result<Value, BackendError> {
        // A configuration does not fit into tags.
        Ok(Value::Null)
    }

    async fn hold(&self, id: &str, holder: &Holder) -> Result<(), BackendError> {
        let doing = format!("claiming image {id}");
        let (region, _) = self.fresh(id, &doing).await?;
        let held = tag(&region, id, vec![(format!("{}{holder}", tags::HOLDER), "held".to_owned())]);
        held.await.map_err(|error| error.into_backend(doing.as_str()))?;
        // It may have been deleted in between.
        self.fresh(id, &doing).await.map(drop)
    }

    async fn holders(&self, id: &str) -> Result<Vec<Holder>, BackendError> {
        let (_, ami) = self.fresh(id, &format!("reading image {id}")).await?;
        Ok(read::holders(&ami))
    }

    async fn release(
        &self,
        id: &str,
        holder: Option<&Holder>,
        retain: bool,
    ) -> Result<Released, BackendError> {
        let doing = format!("deleting image {id}");
        let failed = |error: AwsError| error.into_backend(doing.as_str());
        let (region, ami) = self.fresh(id, &doing).await?;
        let mut others = read::holders(&ami);
        if let Some(holder) = holder {
            others.retain(|other| other != holder);
            untag(&region, id, vec![format!("{}{holder}", tags::HOLDER)]).await.map_err(failed)?;
        }
        if retain {
            return Ok(Released::Retained);
        }
        if !others.is_empty() {
            return Ok(Released::Held { others: others.len() });
        }
        if !tags::map(ami.tags()).contains_key(tags::KEY) {
            return Err(BackendError::failed(doing, NotOurs { id: id.to_owned() }));
        }
        let left = delete::everywhere(&self.aws, &region, &ami).await.map_err(failed)?;
        Ok(Released::Deleted { left })
    }

    async fn relabel(&self, id: &str, change: &LabelChange) -> Result<(), BackendError> {
        let doing = format!("changing image {id}");
        let (region, ami) = self.fresh(id, &doing).await?;
        let changed = async {
            let mut set: Vec<(String, String)> = change.set_tags.clone().into_iter().collect();
            let channel = |name: &String| format!("{}{name}", tags::CHANNEL);
            set.extend(change.add_channels.iter().map(|name| (channel(name), "promoted".to_owned())));
            let mut removed: Vec<String> = change.remove_tags.iter().cloned().collect();
            removed.extend(change.remove_channels.iter().map(channel));
            tag(&region, id, set).await?;
            untag(&region, id, removed).await?;
            match &change.description {
                Some(text) => describe(&region, &ami, text.as_deref().unwrap_or_default()).await,
                None => Ok(()),
            }
        };
        changed.await.map_err(|error| error.into_backend(doing.as_str()))?;
        self.fresh(id, &doing).await.map(drop)
    }

    async fn remember(&self, _id: &str, _inputs: Value) -> Result<(), BackendError> {
        Ok(())
    }
}

/// Somebody took our tag away, or it was never ours: deleting it could hit another's work.
#[derive(Debug, thiserror::Error)]
#[error(
    "image {id} has no tag `sindri_key` (any more), so it is not deleted\nPut the tag back, or delete the image by hand and run again"
)]
struct NotOurs {
    id: String,
}

fn not_found(id: &str) -> BackendError {
    BackendError::NotFound { kind: "image", id: id.to_owned() }
}

pub(super) async fn tag(region: &Region, id: &str, set: Vec<(String, String)>) -> Result<(), AwsError> {
    if set.is_empty() {
        return Ok(());
    }
    let set = tags::list(set.iter().map(|(key, value)| (key, value)));
    let done = region.ec2.create_tags().resources(id).set_tags(Some(set)).send().await;
    done.map(drop).map_err(|error| AwsError::of("CreateTags", error))
}

pub(super) async fn untag(region: &Region, id: &str, keys: Vec<String>) -> Result<(), AwsError> {
    if keys.is_empty() {
        return Ok(());
    }
    let keys = keys.into_iter().map(|key| Tag::builder().key(key).build()).collect();
    let done = region.ec2.delete_tags().resources(id).set_tags(Some(keys)).send().await;
    done.map(drop).map_err(|error| AwsError::of("DeleteTags", error))
}

async fn describe(region: &Region, ami: &Ami, text: &str) -> Result<(), AwsError> {
    let value = AttributeValue::builder().value(text).build();
    let asked = region.ec2.modify_image_attribute().set_image_id(ami.image_id().map(str::to_owned));
    let done = asked.description(value).send().await;
    done.map(drop).map_err(|error| AwsError::of("ModifyImageAttribute", error))
}
