//! What there is of builds in a region.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{
    Filter, Image as Ami, ImageState, InstanceStateName, Snapshot, SpotInstanceState, Tag, VolumeState,
};
use chrono::{DateTime, Utc};
use futures::future::{BoxFuture, try_join_all};
use tokio::try_join;

use super::{Kind, Remain};
use crate::backends::aws::image::{holders_of, snapshots_of};
use crate::backends::aws::region::{self, Region, filter, tag_filter};
use crate::backends::aws::vm::{LAUNCH, surroundings};
use crate::backends::aws::{AwsError, tags};

/// As many launch templates as EC2 lists at once.
const MOST_TEMPLATES: i32 = 200;

/// The tag that EC2 gives an instance from a launch template
/// (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-launch-templates.html>).
const LAUNCH_TEMPLATE: &str = "aws:ec2launchtemplate:id";

/// One thing with a build's tags.
#[derive(Debug, Clone)]
pub(super) struct Thing {
    pub(super) kind: Kind,
    pub(super) id: String,
    pub(super) tags: BTreeMap<String, String>,
}

impl Thing {
    fn new(kind: Kind, id: Option<&str>, tags: &[Tag]) -> Option<Self> {
        Some(Self { kind, id: id?.to_owned(), tags: tags::map(tags) })
    }

    pub(super) fn remain(&self, region: &Region, build: &str) -> Remain {
        Remain { kind: self.kind, id: self.id.clone(), region: region.name.clone(), build: build.to_owned() }
    }
}

/// One build, and what is known of it beside its tags.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    /// Its id, or that of a launch as it stands in state.
    pub(super) build: String,
    /// The image's name, and when the build began: Packer gives an image its tags after it was made.
    pub(super) named: Option<(String, DateTime<Utc>)>,
    /// Images that are known to be its own.
    pub(super) images: BTreeSet<String>,
    /// Snapshots of such images, which outlast them.
    pub(super) snapshots: BTreeSet<String>,
    /// Images that are not to be removed, though they may not say yet that they are complete.
    pub(super) spared: BTreeSet<String>,
}

/// All that is left of a build. Its images and their snapshots are remembered in `wanted`: they are found again when
/// one of both is gone.
pub(super) async fn of_build(region: &Region, wanted: &mut Wanted) -> Result<Vec<Thing>, AwsError> {
    if let Some(launch) = wanted.build.strip_prefix(LAUNCH) {
        return of_launch(region, launch).await;
    }
    let tag = tag_filter(tags::BUILD, [&wanted.build]);
    let name = surroundings::name(&wanted.build);
    let things = all(vec![
        Box::pin(tagged(region, &tag)),
        Box::pin(key_pairs(region, filter("key-name", [&name]))),
        Box::pin(groups(region, filter("group-name", [&name]))),
    ]);
    let (mut found, images) = try_join!(things, Box::pin(images_of(region, &tag, wanted)))?;
    for ami in images {
        wanted.images.extend(ami.image_id().map(str::to_owned));
        wanted.snapshots.extend(snapshots_of(&ami));
        found.extend(Thing::new(Kind::Image, ami.image_id(), ami.tags()));
    }
    let snapshots = snapshots_of_build(region, tag, wanted).await?;
    found.extend(unused(region, snapshots, &wanted.images).await?);
    found.sort_by(|a, b| (a.kind, &a.id).cmp(&(b.kind, &b.id)));
    found.dedup_by(|a, b| (a.kind, &a.id) == (b.kind, &b.id));
    Ok(found)
}

/// All that is left of a launch; its volumes go with the instance.
async fn of_launch(region: &Region, launch: &str) -> Result<Vec<Thing>, AwsError> {
    let tag = tag_filter(tags::VM, [launch]);
    let name = surroundings::name(launch);
    let mut found = all(vec![
        Box::pin(machines(region, tag.clone())),
        Box::pin(key_pairs(region, tag.clone())),
        Box::pin(key_pairs(region, filter("key-name", [&name]))),
        Box::pin(groups(region, tag)),
        Box::pin(groups(region, filter("group-name", [&name]))),
    ])
    .await?;
    found.sort_by(|a, b| (a.kind, &a.id).cmp(&(b.kind, &b.id)));
    found.dedup_by(|a, b| (a.kind, &a.id) == (b.kind, &b.id));
    Ok(found)
}

/// What launches made and has a deadline, whosever it is.
pub(super) async fn launched_with_deadline(region: &Region) -> Result<Vec<Thing>, AwsError> {
    let tag = filter("tag-key", [tags::DEADLINE]);
    let mut found = all(vec![
        Box::pin(machines(region, tag.clone())),
        Box::pin(key_pairs(region, tag.clone())),
        Box::pin(groups(region, tag)),
    ])
    .await?;
    found.retain(|thing| thing.tags.contains_key(tags::VM));
    Ok(found)
}

/// Whether there may be anything past its deadline: one request, by which nearly always nothing more is asked.
pub(super) async fn may_be_overdue(region: &Region, now: DateTime<Utc>) -> Result<bool, AwsError> {
    let asked = region.ec2.describe_tags().filters(filter("key", [tags::DEADLINE]));
    let mut pages = asked.max_results(region::PAGE).into_paginator().send();
    while let Some(page) = pages.next().await {
        match page.map_err(|error| AwsError::of("DescribeTags", error)) {
            // Whoever may not ask for them looks at the things themselves.
            Err(AwsError::Denied { .. }) => return Ok(true),
            page => {
                let page = page?;
                let mut deadlines = page.tags().iter().filter_map(|tag| deadline(tag.value()));
                if deadlines.any(|deadline| deadline < now) {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

/// A deadline as its tag has it.
pub(super) fn deadline(text: Option<&str>) -> Option<DateTime<Utc>> {
    text.and_then(|text| DateTime::parse_from_rfc3339(text).ok()).map(|time| time.to_utc())
}

/// All with a deadline, whosever it is, but complete images and their snapshots.
pub(super) async fn with_deadline(region: &Region) -> Result<Vec<Thing>, AwsError> {
    let tag = filter("tag-key", [tags::DEADLINE]);
    let (mut found, images, snapshots) = try_join!(
        Box::pin(tagged(region, &tag)),
        Box::pin(images(region, tag.clone())),
        Box::pin(region::snapshots(&region.ec2, tag.clone())),
    )?;
    let mut removable = BTreeSet::new();
    for ami in images.iter().filter(|ami| is_incomplete(ami)) {
        removable.extend(ami.image_id().map(str::to_owned));
        found.extend(Thing::new(Kind::Image, ami.image_id(), ami.tags()));
    }
    found.extend(unused(region, snapshots, &removable).await?);
    Ok(found)
}

/// What is found by tags alone.
async fn tagged(region: &Region, tag: &Filter) -> Result<Vec<Thing>, AwsError> {
    all(vec![
        Box::pin(spot_requests(region, tag.clone())),
        Box::pin(of_templates(region, tag)),
        Box::pin(machines(region, tag.clone())),
        Box::pin(volumes(region, tag.clone())),
        Box::pin(key_pairs(region, tag.clone())),
        Box::pin(groups(region, tag.clone())),
    ])
    .await
}

/// Listings that know nothing of each other, at once.
async fn all(listings: Vec<BoxFuture<'_, Result<Vec<Thing>, AwsError>>>) -> Result<Vec<Thing>, AwsError> {
    Ok(try_join_all(listings).await?.concat())
}

/// Instances that have not ended.
async fn machines(region: &Region, by: Filter) -> Result<Vec<Thing>, AwsError> {
    let found = region::instances(&region.ec2, by).await?;
    let there = found.iter().filter(|instance| {
        let state = instance.state().and_then(|state| state.name());
        state != Some(&InstanceStateName::Terminated)
    });
    Ok(there.filter_map(|it| Thing::new(Kind::Instance, it.instance_id(), it.tags())).collect())
}

/// Launch templates, and what was launched from them.
async fn of_templates(region: &Region, tag: &Filter) -> Result<Vec<Thing>, AwsError> {
    let mut found = launch_templates(region, tag.clone()).await?;
    found.extend(launched_from(region, &found).await?);
    Ok(found)
}

/// Instances of these launch templates, with their tags: the oldest Packer tags a spot instance some time after it was made.
async fn launched_from(region: &Region, templates: &[Thing]) -> Result<Vec<Thing>, AwsError> {
    let mut found = Vec::new();
    for template in templates {
        for mut machine in machines(region, tag_filter(LAUNCH_TEMPLATE, [&template.id])).await? {
            machine.tags.extend(template.tags.clone());
            found.push(machine);
        }
    }
    Ok(found)
}

/// A build's images that are not complete: by tag, by id, and by name when they say nothing of another build.
async fn images_of(region: &Region, tag: &Filter, wanted: &Wanted) -> Result<Vec<Ami>, AwsError> {
    let mut found = images(region, tag.clone()).await?;
    if !wanted.images.is_empty() {
        found.extend(images(region, filter("image-id", &wanted.images)).await?);
    }
    if let Some((name, since)) = &wanted.named {
        let named = images(region, filter("name", [name])).await?;
        found.extend(named.into_iter().filter(|ami| is_untagged_since(ami, *since)));
    }
    found.retain(|ami| {
        let is_spared = ami.image_id().is_none_or(|id| wanted.spared.contains(id));
        is_incomplete(ami) && !is_spared
    });
    Ok(found)
}

/// Whether it has neither a key nor anybody who holds it: a deletion that was cut off takes the key off for a moment.
fn is_incomplete(ami: &Ami) -> bool {
    let is_complete = tags::map(ami.tags()).contains_key(tags::KEY) || !holders_of(ami).is_empty();
    !is_complete && ami.state() != Some(&ImageState::Deregistered)
}

/// Names are unique in a region, but whose an image is, its tags tell, or else that it was made during the build.
fn is_untagged_since(ami: &Ami, since: DateTime<Utc>) -> bool {
    let created = ami.creation_date().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    ami.tags().iter().all(|tag| tag.key().is_none_or(tags::is_users))
        && created.is_some_and(|time| time.timestamp() >= since.timestamp())
}

/// By tag; those of its images; and those that came up for an image that was removed while it was being made.
async fn snapshots_of_build(
    region: &Region,
    tag: Filter,
    wanted: &Wanted,
) -> Result<Vec<Snapshot>, AwsError> {
    let mut found = region::snapshots(&region.ec2, tag).await?;
    if !wanted.snapshots.is_empty() {
        found.extend(region::snapshots(&region.ec2, filter("snapshot-id", &wanted.snapshots)).await?);
    }
    if !wanted.images.is_empty() {
        let descriptions = wanted.images.iter().map(|ami| format!("Created by CreateImage(*) for {ami}*"));
        found.extend(region::snapshots(&region.ec2, filter("description", descriptions)).await?);
    }
    Ok(found)
}

/// Those that no image uses but the removable ones.
async fn unused(
    region: &Region,
    snapshots: Vec<Snapshot>,
    removable: &BTreeSet<String>,
) -> Result<Vec<Thing>, AwsError> {
    let ids: Vec<&str> = snapshots.iter().filter_map(Snapshot::snapshot_id).collect();
    let mut used = BTreeSet::new();
    for ids in ids.chunks(region::MOST_VALUES) {
        let by = filter("block-device-mapping.snapshot-id", ids.iter().copied());
        let users = images(region, by).await?;
        let users = users.iter().filter(|ami| ami.image_id().is_none_or(|id| !removable.contains(id)));
        used.extend(users.flat_map(snapshots_of));
    }
    let thing = |it: &Snapshot| Thing::new(Kind::Snapshot, it.snapshot_id(), it.tags());
    Ok(snapshots.iter().filter_map(thing).filter(|it| !used.contains(&it.id)).collect())
}

async fn images(region: &Region, by: Filter) -> Result<Vec<Ami>, AwsError> {
    let asked = region.ec2.describe_images().owners("self").include_disabled(true).include_deprecated(true);
    let found = region::images(asked.filters(by).max_results(region::PAGE)).await?;
    Ok(found.into_iter().map(|(_, ami)| ami).collect())
}

async fn volumes(region: &Region, by: Filter) -> Result<Vec<Thing>, AwsError> {
    let asked = region.ec2.describe_volumes().filters(by).max_results(region::PAGE);
    let found = asked.into_paginator().items().send().try_collect().await;
    let found = found.map_err(|error| AwsError::of("DescribeVolumes", error))?;
    let there = found.iter().filter(|it| {
        let state = it.state();
        !matches!(state, Some(VolumeState::Deleting | VolumeState::Deleted))
    });
    Ok(there.filter_map(|it| Thing::new(Kind::Volume, it.volume_id(), it.tags())).collect())
}

async fn key_pairs(region: &Region, by: Filter) -> Result<Vec<Thing>, AwsError> {
    let found = region.ec2.describe_key_pairs().filters(by).send().await;
    let found = found.map_err(|error| AwsError::of("DescribeKeyPairs", error))?;
    let pairs = found.key_pairs().iter();
    Ok(pairs.filter_map(|it| Thing::new(Kind::KeyPair, it.key_pair_id(), it.tags())).collect())
}

async fn groups(region: &Region, by: Filter) -> Result<Vec<Thing>, AwsError> {
    let found = region::groups(&region.ec2, by).await?;
    let things = found.iter().filter_map(|(id, it)| Thing::new(Kind::SecurityGroup, Some(id), it.tags()));
    Ok(things.collect())
}

/// Orders that may still become instances. Who may not ask for them has made none.
async fn spot_requests(region: &Region, by: Filter) -> Result<Vec<Thing>, AwsError> {
    let open = filter("state", [SpotInstanceState::Open.as_str(), SpotInstanceState::Active.as_str()]);
    let found = region.ec2.describe_spot_instance_requests().filters(by).filters(open).send().await;
    match found.map_err(|error| AwsError::of("DescribeSpotInstanceRequests", error)) {
        Err(AwsError::Denied { .. }) => Ok(Vec::new()),
        found => {
            let found = found?;
            let orders = found.spot_instance_requests().iter();
            let thing = |it: &aws_sdk_ec2::types::SpotInstanceRequest| {
                Thing::new(Kind::SpotRequest, it.spot_instance_request_id(), it.tags())
            };
            Ok(orders.filter_map(thing).collect())
        }
    }
}

/// What Packer orders spot instances from. Who may not ask for them has made none.
async fn launch_templates(region: &Region, by: Filter) -> Result<Vec<Thing>, AwsError> {
    let asked = region.ec2.describe_launch_templates().filters(by).max_results(MOST_TEMPLATES);
    let found = asked.into_paginator().items().send().try_collect().await;
    let found = match found.map_err(|error| AwsError::of("DescribeLaunchTemplates", error)) {
        Err(AwsError::Denied { .. }) => Vec::new(),
        found => found?,
    };
    let thing = |it: &aws_sdk_ec2::types::LaunchTemplate| {
        Thing::new(Kind::LaunchTemplate, it.launch_template_id(), it.tags())
    };
    Ok(found.iter().filter_map(thing).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_a_builds_by_name_only_when_it_can_be_no_others() {
        let since = DateTime::parse_from_rfc3339("2026-01-02T03:04:05.9Z").unwrap().to_utc();
        let during = "2026-01-02T03:04:05.000Z";
        for (created, tag, ours) in [
            (during, None, true),
            (during, Some("Name"), true),
            (during, Some(tags::BUILD), false),
            (during, Some(tags::KEY), false),
            ("2026-01-02T03:04:04.000Z", None, false),
            ("", None, false),
        ] {
            let tag = tag.map(|key| vec![Tag::builder().key(key).value("x").build()]);
            let ami = Ami::builder().creation_date(created).set_tags(tag).build();
            assert_eq!(is_untagged_since(&ami, since), ours, "{created} {:?}", ami.tags());
        }
    }

    #[test]
    fn a_key_makes_an_image_complete() {
        let with = |key: &str| Ami::builder().tags(Tag::builder().key(key).value("x").build()).build();
        assert!(is_incomplete(&with(tags::BUILD)) && !is_incomplete(&with(tags::KEY)));
        assert!(!is_incomplete(&with("sindri_holder_0123abcd")));
        let gone = Ami::builder().state(ImageState::Deregistered).build();
        assert!(!is_incomplete(&gone));
    }
}
