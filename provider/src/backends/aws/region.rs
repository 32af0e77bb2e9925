//! One region: its client, and what is known of the images and instances there.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{Filter, Image, Instance, InstanceStateName, SecurityGroup, Snapshot, Tag};
use tokio::sync::{Mutex, OnceCell};

use super::listing::{Listing, Source};
use super::{AwsError, tags};

/// As many values as EC2 takes in one filter.
pub(super) const MOST_VALUES: usize = 200;
/// As many objects as EC2 gives on one page.
pub(super) const PAGE: i32 = 1000;

/// Name, owners and processors of source images.
pub(super) type SourceFilter = (String, Vec<String>, &'static str);

/// A region.
#[derive(Debug)]
pub(super) struct Region {
    pub(super) name: String,
    pub(super) ec2: Client,
    /// Set when what launches left there was looked for.
    pub(super) swept: OnceCell<()>,
    images: Listing<Image>,
    instances: Listing<Instance>,
    groups: Listing<SecurityGroup>,
    /// What filters for source images found; nothing where that could not be asked.
    pub(super) sources: Mutex<BTreeMap<SourceFilter, Arc<Vec<Image>>>>,
}

/// Images, ours those with a key.
struct Images<'a>(&'a Client);

/// Instances, ours those with the launch's tag.
struct Instances<'a>(&'a Client);

/// Security groups, ours those with the launch's tag.
struct Groups<'a>(&'a Client);

impl Region {
    pub(super) fn new(name: String, ec2: Client) -> Self {
        Self {
            name,
            ec2,
            swept: OnceCell::new(),
            images: Listing::default(),
            instances: Listing::default(),
            groups: Listing::default(),
            sources: Mutex::default(),
        }
    }

    /// An image, as it is known to this process.
    pub(super) async fn image(&self, id: &str) -> Result<Option<Image>, AwsError> {
        self.images.get(&Images(&self.ec2), id).await
    }

    /// All images with a key.
    pub(super) async fn our_images(&self) -> Result<Vec<Image>, AwsError> {
        self.images.all(&Images(&self.ec2)).await
    }

    /// All images with this key, as they are in this moment.
    pub(super) async fn images_of(&self, key: &str) -> Result<Vec<Image>, AwsError> {
        let asked = self.ec2.describe_images().owners("self");
        let found = images(asked.filters(tag_filter(tags::KEY, [key])).max_results(PAGE)).await?;
        for (id, image) in &found {
            self.images.enter(id, Some(image.clone())).await;
        }
        Ok(found.into_iter().map(|(_, image)| image).collect())
    }

    /// Copies in this region of an image elsewhere, as they are in this moment.
    pub(super) async fn copies_of(&self, origin: &str) -> Result<Vec<Image>, AwsError> {
        let asked = self.ec2.describe_images().owners("self").include_deprecated(true);
        let found = images(asked.filters(tag_filter(tags::COPY_OF, [origin])).max_results(PAGE)).await?;
        Ok(found.into_iter().map(|(_, image)| image).collect())
    }

    /// An image as it is in this moment.
    pub(super) async fn fresh_image(&self, id: &str) -> Result<Option<Image>, AwsError> {
        let found = Images(&self.ec2).some(&[id.to_owned()]).await?.pop().map(|(_, image)| image);
        self.images.enter(id, found.clone()).await;
        Ok(found)
    }

    /// Why there is no such image, in words for the person who named it.
    pub(super) fn no_image(&self, id: &str) -> String {
        format!(
            "there is no image {id} in {}: it was deleted, is not shared with this account, or is of another region (an AMI lives in one region, and a copy in another one has an id of its own)",
            self.name
        )
    }

    /// Sets tags on things.
    pub(super) async fn tag(
        &self,
        objects: impl IntoIterator<Item = impl Into<String>>,
        set: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), AwsError> {
        let set: Vec<(String, String)> = set.into_iter().collect();
        if set.is_empty() {
            return Ok(());
        }
        let set = tags::list(set.iter().map(|(key, value)| (key, value)));
        let objects = objects.into_iter().map(Into::into).collect();
        let asked = self.ec2.create_tags().set_resources(Some(objects)).set_tags(Some(set));
        asked.send().await.map(drop).map_err(|error| AwsError::of("CreateTags", error))
    }

    /// Removes tags from things, whatever their values.
    pub(super) async fn untag(
        &self,
        objects: impl IntoIterator<Item = impl Into<String>>,
        keys: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<(), AwsError> {
        let keys: Vec<Tag> = keys.into_iter().map(|key| Tag::builder().key(key).build()).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let objects = objects.into_iter().map(Into::into).collect();
        let asked = self.ec2.delete_tags().set_resources(Some(objects)).set_tags(Some(keys));
        asked.send().await.map(drop).map_err(|error| AwsError::of("DeleteTags", error))
    }

    /// The image was deleted.
    pub(super) async fn forget_image(&self, id: &str) {
        self.images.enter(id, None).await;
    }

    /// An instance, as it is known to this process.
    pub(super) async fn instance(&self, id: &str) -> Result<Option<Instance>, AwsError> {
        self.instances.get(&Instances(&self.ec2), id).await
    }

    /// An instance as it is in this moment; `None` also while a new one has not got around in EC2.
    pub(super) async fn fresh_instance(&self, id: &str) -> Result<Option<Instance>, AwsError> {
        let found = Instances(&self.ec2).some(&[id.to_owned()]).await?.pop().map(|(_, instance)| instance);
        self.instances.enter(id, found.clone().filter(|instance| !is_gone(instance))).await;
        Ok(found)
    }

    /// A security group, as it is known to this process.
    pub(super) async fn group(&self, id: &str) -> Result<Option<SecurityGroup>, AwsError> {
        self.groups.get(&Groups(&self.ec2), id).await
    }

    /// The instance of a launch, if there is one that lives.
    pub(super) async fn launched(&self, launch: &str) -> Result<Option<Instance>, AwsError> {
        let found = instances(&self.ec2, tag_filter(tags::VM, [launch])).await?;
        Ok(found.into_iter().find(|instance| !is_gone(instance)))
    }
}

/// Whether an instance is on its way out.
pub(super) fn is_gone(instance: &Instance) -> bool {
    let state = instance.state().and_then(|state| state.name());
    matches!(state, Some(InstanceStateName::ShuttingDown | InstanceStateName::Terminated))
}

/// A filter of a Describe request.
pub(super) fn filter<T: Into<String>>(name: &str, values: impl IntoIterator<Item = T>) -> Filter {
    let values = values.into_iter().map(Into::into).collect();
    Filter::builder().name(name).set_values(Some(values)).build()
}

/// One by a tag and its values.
pub(super) fn tag_filter<T: Into<String>>(key: &str, values: impl IntoIterator<Item = T>) -> Filter {
    filter(&format!("tag:{key}"), values)
}

#[async_trait]
impl Source for Images<'_> {
    type Object = Image;
    type Error = AwsError;

    async fn ours(&self) -> Result<Vec<(String, Image)>, AwsError> {
        images(
            self.0.describe_images().owners("self").filters(filter("tag-key", [tags::KEY])).max_results(PAGE),
        )
        .await
    }

    async fn some(&self, ids: &[String]) -> Result<Vec<(String, Image)>, AwsError> {
        let mut found = Vec::new();
        for ids in ids.chunks(MOST_VALUES) {
            // Disabled and deprecated ones count as there.
            let asked = || self.0.describe_images().include_disabled(true).include_deprecated(true);
            // By id, as EC2 recommends: a filter without an owner goes through all that is public.
            let by_filter = || images(asked().filters(filter("image-id", ids)).max_results(PAGE));
            let answer = match images(asked().set_image_ids(Some(ids.to_vec()))).await {
                Err(error) if is_no_image(&error) && ids.len() == 1 => Ok(Vec::new()),
                // One that is gone, or not shared any more, has refused them all.
                Err(error) if is_no_image(&error) || is_unshared(&error) => by_filter().await,
                other => other,
            };
            found.extend(answer?);
        }
        Ok(found)
    }
}

/// Whether EC2 knows no image of this id, or takes it for none.
fn is_no_image(error: &AwsError) -> bool {
    error.is_gone() || error.code() == Some("InvalidAMIID.Malformed")
}

/// Whether EC2 does not show an image to us (any more).
fn is_unshared(error: &AwsError) -> bool {
    error.code() == Some("AuthFailure")
}

/// What a request for images finds, by id.
pub(super) async fn images(
    asked: aws_sdk_ec2::operation::describe_images::builders::DescribeImagesFluentBuilder,
) -> Result<Vec<(String, Image)>, AwsError> {
    let found = asked.into_paginator().items().send().try_collect().await;
    let found = found.map_err(|error| AwsError::of("DescribeImages", error))?;
    Ok(found.into_iter().filter_map(|image| Some((image.image_id()?.to_owned(), image))).collect())
}

#[async_trait]
impl Source for Instances<'_> {
    type Object = Instance;
    type Error = AwsError;

    async fn ours(&self) -> Result<Vec<(String, Instance)>, AwsError> {
        let found = instances(self.0, filter("tag-key", [tags::VM])).await?;
        Ok(by_id(found.into_iter().filter(|instance| !is_gone(instance))))
    }

    async fn some(&self, ids: &[String]) -> Result<Vec<(String, Instance)>, AwsError> {
        let mut found = Vec::new();
        for ids in ids.chunks(MOST_VALUES) {
            found.extend(by_id(instances(self.0, filter("instance-id", ids)).await?));
        }
        Ok(found)
    }
}

#[async_trait]
impl Source for Groups<'_> {
    type Object = SecurityGroup;
    type Error = AwsError;

    async fn ours(&self) -> Result<Vec<(String, SecurityGroup)>, AwsError> {
        groups(self.0, filter("tag-key", [tags::VM])).await
    }

    async fn some(&self, ids: &[String]) -> Result<Vec<(String, SecurityGroup)>, AwsError> {
        let mut found = Vec::new();
        for ids in ids.chunks(MOST_VALUES) {
            found.extend(groups(self.0, filter("group-id", ids)).await?);
        }
        Ok(found)
    }
}

/// Security groups, by id.
pub(super) async fn groups(ec2: &Client, filter: Filter) -> Result<Vec<(String, SecurityGroup)>, AwsError> {
    let asked = ec2.describe_security_groups().filters(filter).max_results(PAGE);
    let found = asked.into_paginator().items().send().try_collect().await;
    let found = found.map_err(|error| AwsError::of("DescribeSecurityGroups", error))?;
    Ok(found.into_iter().filter_map(|group| Some((group.group_id()?.to_owned(), group))).collect())
}

fn by_id(instances: impl IntoIterator<Item = Instance>) -> Vec<(String, Instance)> {
    instances
        .into_iter()
        .filter_map(|instance| Some((instance.instance_id()?.to_owned(), instance)))
        .collect()
}

/// The account's own snapshots.
pub(super) async fn snapshots(ec2: &Client, filter: Filter) -> Result<Vec<Snapshot>, AwsError> {
    let asked = ec2.describe_snapshots().owner_ids("self").filters(filter).max_results(PAGE);
    let found = asked.into_paginator().items().send().try_collect().await;
    found.map_err(|error| AwsError::of("DescribeSnapshots", error))
}

/// Instances in any state.
pub(super) async fn instances(ec2: &Client, filter: Filter) -> Result<Vec<Instance>, AwsError> {
    let asked = ec2.describe_instances().filters(filter).max_results(PAGE);
    let found = asked.into_paginator().items().send().try_collect().await;
    let found = found.map_err(|error| AwsError::of("DescribeInstances", error))?;
    Ok(found.into_iter().flat_map(|reservation| reservation.instances.unwrap_or_default()).collect())
}
