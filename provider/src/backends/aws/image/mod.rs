//! Images on EC2: AMIs that carry our key, found by it, held, relabelled and deleted. How they are built is
//! the business of `build`.

mod build;
mod claim;
mod claims;
mod copy;
mod delete;
mod distribute;
mod made;
mod problems;
mod read;
mod share;
mod spec;
mod target;
mod withdraw;

pub use build::{AwsBuilder, Tools};
pub use made::AmiKeeper;
pub use spec::{AwsImageSpec, Bastion, Builder, Interface, Login, Source, Volume};

pub(super) use claims::Claims;
pub(super) use delete::{DeleteError, copies_of as delete_copies_of};
pub(super) use read::{holders as holders_of, is_there, snapshots as snapshots_of};
pub(super) use withdraw::{others as others_of, withdraw};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_ec2::types::{AttributeValue, Image as Ami, ImageState};
use chrono::{DateTime, Utc};
use futures::future::join_all;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::region::Region;
use super::{Aws, AwsError, tags};
use crate::domain::causes;
use crate::domain::{
    BackendError, CacheKey, Copies, Distribution, Holder, Image, ImageBackend, LabelChange, Released, Share,
    Undistributed, unless_cancelled, with_grace,
};

/// What a deletion that is interrupted has left: the key of an image that stays is put back.
const GIVING_BACK: Duration = Duration::from_secs(5);

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

    /// All that are complete, the oldest first; `copies` tells whether those count whose image is in another region.
    async fn ours(&self, copies: bool) -> Result<Vec<Image>, AwsError> {
        let region = self.region().await?;
        let all = region.our_images().await?;
        Ok(complete(&region, all.iter().filter(|ami| copies || !read::is_copy(ami))))
    }

    /// Images with this key as they are in this moment, for whoever would build one otherwise: what [`ImageBackend::find`]
    /// knows may be as old as the process.
    ///
    /// # Errors
    /// When AWS does not say.
    pub async fn find_now(&self, key: &CacheKey) -> Result<Vec<Image>, BackendError> {
        let failed = |error: AwsError| error.into_backend("looking for the image");
        let region = self.region().await.map_err(failed)?;
        let found = region.images_of(key.as_str()).await.map_err(failed)?;
        Ok(complete(&region, found.iter().filter(|ami| !read::is_copy(ami))))
    }

    /// The image with what its copies say themselves. A copy that is gone is left out; one whose region does not answer
    /// stays as it is recorded.
    async fn whole(&self, region: &Region, ami: &Ami) -> Image {
        let mut image = read::image(&region.name, ami);
        let all = tags::map(ami.tags());
        for (name, id) in read::copies(&all) {
            let found = async { self.aws.region(Some(name)).await?.image(id).await };
            match found.await {
                Ok(Some(copy)) if read::is_there(&copy) => {
                    image.artifacts.insert(name.to_owned(), read::artifact(&copy));
                }
                Ok(_) => {
                    image.artifacts.remove(name);
                }
                Err(error) => tracing::warn!(copy = id, region = name, %error, "a copy cannot be read"),
            }
        }
        image
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

    /// Changes the labels of an image and its copies.
    async fn relabel(&self, id: &str, change: &LabelChange) -> Result<(), BackendError> {
        let doing = format!("changing image {id}");
        let (region, ami) = self.fresh(id, &doing).await?;
        let mut problems = Vec::new();
        let all = tags::map(ami.tags());
        for (name, id) in read::copies(&all).filter(|(name, _)| !change.leaves.contains(*name)) {
            let changed = async {
                let region = self.aws.region(Some(name)).await?;
                match region.fresh_image(id).await?.filter(read::is_there) {
                    Some(copy) => change_labels(&region, &copy, change).await,
                    None => Ok(()),
                }
            };
            let told = |error: AwsError| format!("In {name}: {}", causes(&error));
            problems.extend(changed.await.err().map(told));
        }
        // The image itself comes last: as long as it is not changed, the next plan sees what is left to do.
        if !problems.is_empty() {
            return Err(BackendError::failed(doing, Unlabelled { problems }));
        }
        let changed = change_labels(&region, &ami, change).await;
        changed.map_err(|error| error.into_backend(doing.as_str()))
    }
}

#[async_trait]
impl ImageBackend for AwsImages {
    async fn find(&self, key: &CacheKey) -> Result<Vec<Image>, BackendError> {
        let ours = self.ours(false).await.map_err(|error| error.into_backend("looking for the image"))?;
        Ok(ours.into_iter().filter(|image| image.key.as_ref() == Some(key)).collect())
    }

    async fn get(&self, id: &str) -> Result<Image, BackendError> {
        let failed = |error: AwsError| error.into_backend(format!("reading image {id}"));
        let region = self.region().await.map_err(failed)?;
        let ami = region.image(id).await.map_err(failed)?.filter(read::is_there);
        match ami {
            Some(ami) => Ok(self.whole(&region, &ami).await),
            None => Err(not_found(id)),
        }
    }

    async fn list(&self) -> Result<Vec<Image>, BackendError> {
        self.ours(true).await.map_err(|error| error.into_backend("listing images"))
    }

    async fn inputs(&self, _id: &str) -> Result<Value, BackendError> {
        // A configuration does not fit into tags.
        Ok(Value::Null)
    }

    async fn hold(
        &self,
        id: &str,
        holder: &Holder,
        until: DateTime<Utc>,
        cancel: &CancellationToken,
    ) -> Result<(), BackendError> {
        let doing = format!("claiming image {id}");
        unless_cancelled(&doing, self.claim(id, holder, until, &doing, cancel), cancel).await
    }

    async fn confirm_claim(&self, id: &str, holder: &Holder) -> Result<(), BackendError> {
        self.confirm(id, holder, &format!("keeping the claim on image {id}")).await
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
        copies: &Copies,
        cancel: &CancellationToken,
    ) -> Result<Released, BackendError> {
        let doing = format!("deleting image {id}");
        // It hears of an interrupt, and has to give an image that stays its key back.
        let going = Box::pin(self.let_go(id, holder, retain, copies, &doing, cancel));
        let done = with_grace(GIVING_BACK, going, cancel).await;
        done.unwrap_or(Err(BackendError::Cancelled { operation: doing }))
    }

    async fn remains(&self, id: &str) -> Result<Vec<String>, BackendError> {
        let failed = |error: AwsError| error.into_backend(format!("looking for what image {id} left"));
        let region = self.region().await.map_err(failed)?;
        let snapshots = delete::remaining(&region, id).await.map_err(failed)?;
        Ok(snapshots.iter().map(|snapshot| format!("snapshot {snapshot} in {}", region.name)).collect())
    }

    async fn change(
        &self,
        id: &str,
        change: &LabelChange,
        // A configuration does not fit into tags.
        _inputs: Option<Value>,
        cancel: &CancellationToken,
    ) -> Result<(), BackendError> {
        let changing = async { if change.is_empty() { Ok(()) } else { self.relabel(id, change).await } };
        unless_cancelled(&format!("changing image {id}"), changing, cancel).await
    }

    async fn distribute(
        &self,
        id: &str,
        from: &Distribution,
        to: &Distribution,
        cancel: &CancellationToken,
    ) -> Result<Vec<Undistributed>, BackendError> {
        let doing = format!("distributing image {id}");
        let (home, ami) = unless_cancelled(&doing, self.fresh(id, &doing), cancel).await?;
        let task = distribute::Task { aws: &self.aws, home: &home, ami: &ami, from, to, cancel };
        Ok(Box::pin(task.run()).await)
    }

    async fn shared(&self, id: &str) -> Result<BTreeMap<String, Share>, BackendError> {
        let failed = |error: AwsError| error.into_backend(format!("reading image {id}"));
        let region = self.region().await.map_err(failed)?;
        let at_home = match share::seen(&region, id).await {
            Err(error) if error.is_gone() => return Err(not_found(id)),
            seen => seen.map_err(failed)?,
        };
        let ami = region.image(id).await.map_err(failed)?;
        let all = ami.as_ref().map(|ami| tags::map(ami.tags())).unwrap_or_default();
        // One that is not ready is shared when it is.
        let unready: BTreeSet<&str> = read::unfinished(&all).collect();
        let ready = read::copies(&all).filter(|(name, _)| !unready.contains(name));
        let seen = ready.map(|(name, copy)| async move {
            let seen = async { share::seen(self.aws.region(Some(name)).await?.as_ref(), copy).await };
            match seen.await {
                Ok(share) => Some((name.to_owned(), share)),
                Err(error) => {
                    tracing::warn!(copy, region = name, %error, "nobody knows who may use a copy");
                    None
                }
            }
        });
        let seen: Vec<_> = join_all(seen).await;
        Ok(seen.into_iter().flatten().chain([(region.name.clone(), at_home)]).collect())
    }
}

/// Those that can be launched from, the oldest first.
fn complete<'a>(region: &Region, all: impl Iterator<Item = &'a Ami>) -> Vec<Image> {
    let available = all.filter(|ami| ami.state() == Some(&ImageState::Available));
    let mut images: Vec<Image> = available.map(|ami| read::image(&region.name, ami)).collect();
    images.retain(|image| image.key.is_some());
    images.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    images
}

/// Some copies did not take labels.
#[derive(Debug, thiserror::Error)]
#[error("{}\nThe next plan tries again", problems.join("\n"))]
struct Unlabelled {
    problems: Vec<String>,
}

/// Changes what an AMI does not have already, and with it its snapshots.
async fn change_labels(region: &Region, ami: &Ami, change: &LabelChange) -> Result<(), AwsError> {
    let (id, seen) = (ami.image_id().unwrap_or_default(), tags::map(ami.tags()));
    let is_news = |(key, value): &(String, String)| seen.get(key) != Some(value);
    let is_there = |key: &String| seen.contains_key(key);
    let mut set: Vec<(String, String)> = change.set_tags.clone().into_iter().filter(is_news).collect();
    let mut removed: Vec<String> = change.remove_tags.iter().filter(|key| is_there(key)).cloned().collect();
    // The image comes last, as its copies do: it tells what is left to do. Of an image that we did not make, the snapshots may
    // be somebody else's.
    let snapshots = if seen.contains_key(tags::KEY) { read::snapshots(ami) } else { Vec::new() };
    if !snapshots.is_empty() {
        region.tag(&snapshots, set.clone()).await?;
        region.untag(&snapshots, removed.clone()).await?;
    }
    set.extend(change.add_channels.iter().map(|name| tags::promoted_to(name)).filter(is_news));
    removed.extend(change.remove_channels.iter().map(|name| tags::promoted_to(name).0).filter(is_there));
    let text = change.description.as_ref().map(|text| text.as_deref().unwrap_or_default());
    let text = text.filter(|text| *text != ami.description().unwrap_or_default());
    if set.is_empty() && removed.is_empty() && text.is_none() {
        return Ok(());
    }
    region.tag([id], set).await?;
    region.untag([id], removed).await?;
    if let Some(text) = text {
        describe(region, ami, text).await?;
    }
    region.fresh_image(id).await.map(drop)
}

fn not_found(id: &str) -> BackendError {
    BackendError::NotFound { kind: "image", id: id.to_owned() }
}

async fn describe(region: &Region, ami: &Ami, text: &str) -> Result<(), AwsError> {
    let value = AttributeValue::builder().value(text).build();
    let asked = region.ec2.modify_image_attribute().set_image_id(ami.image_id().map(str::to_owned));
    let done = asked.description(value).send().await;
    done.map(drop).map_err(|error| AwsError::of("ModifyImageAttribute", error))
}
