//! An AMI as an image.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{Image as Ami, ImageState};
use chrono::{DateTime, Utc};

use crate::backends::aws::tags;
use crate::domain::{Artifact, CacheKey, Holder, Image, Labels};

/// Whether the image can still be worked with: AWS lists deleted and failed ones for a while.
pub(in crate::backends::aws) fn is_there(ami: &Ami) -> bool {
    !matches!(
        ami.state(),
        Some(ImageState::Deregistered | ImageState::Invalid | ImageState::Failed | ImageState::Error)
    )
}

/// The AMI as resources see it.
pub(super) fn image(region: &str, ami: &Ami) -> Image {
    let all = tags::map(ami.tags());
    let id = ami.image_id().unwrap_or_default().to_owned();
    let own = artifact(ami);
    let mut artifacts = BTreeMap::from([(region.to_owned(), own)]);
    artifacts.extend(copies(&all).map(|(region, id)| {
        // A copy's snapshots are known where it is.
        (
            region.to_owned(),
            Artifact { image_id: id.to_owned(), snapshot_ids: Vec::new(), deprecated_at: None },
        )
    }));
    let gigabytes = ami.block_device_mappings().iter().filter_map(|mapping| mapping.ebs()?.volume_size());
    Image {
        name: ami.name().unwrap_or_default().to_owned(),
        key: all.get(tags::KEY).and_then(|key| CacheKey::try_from(key.clone()).ok()),
        artifacts,
        unfinished: unfinished(&all).map(str::to_owned).collect(),
        labels: Labels {
            description: ami.description().filter(|text| !text.is_empty()).map(str::to_owned),
            channels: all
                .keys()
                .filter_map(|key| key.strip_prefix(tags::CHANNEL))
                .map(str::to_owned)
                .collect(),
            tags: all
                .iter()
                .filter(|(key, _)| tags::is_users(key))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
        },
        resolved_base: all.get(tags::BASE).cloned(),
        created_at: created_at(ami),
        build_seconds: all.get(tags::BUILD_SECONDS).and_then(|text| text.parse().ok()),
        size_bytes: gigabytes.map(|size| u64::try_from(size).unwrap_or_default() << 30).sum(),
        log_path: None,
        disk: None,
        made: Vec::new(),
        id,
    }
}

/// An AMI as one region's part of an image.
pub(super) fn artifact(ami: &Ami) -> Artifact {
    Artifact {
        image_id: ami.image_id().unwrap_or_default().to_owned(),
        snapshot_ids: snapshots(ami),
        deprecated_at: deprecated_at(ami),
    }
}

/// When it was finished.
pub(super) fn created_at(ami: &Ami) -> DateTime<Utc> {
    time(ami.creation_date()).unwrap_or(DateTime::<Utc>::UNIX_EPOCH)
}

/// When it ages.
pub(super) fn deprecated_at(ami: &Ami) -> Option<DateTime<Utc>> {
    time(ami.deprecation_time())
}

fn time(text: Option<&str>) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text?).ok().map(|time| time.to_utc())
}

/// Copies in other regions: region and id. A copy itself says of which image with a tag that begins alike.
pub(super) fn copies(tags: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    let copies = tags.iter().filter(|(key, _)| key.as_str() != tags::COPY_OF);
    copies.filter_map(|(key, id)| Some((key.strip_prefix(tags::COPY)?, id.as_str())))
}

/// Regions in which a copy was begun that is not ready yet.
pub(super) fn unfinished(all: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    all.keys().filter_map(|key| key.strip_prefix(tags::UNFINISHED))
}

/// Whether it is a copy, whose image is elsewhere.
pub(super) fn is_copy(ami: &Ami) -> bool {
    ami.tags().iter().any(|tag| tag.key() == Some(tags::COPY_OF))
}

/// The snapshots that belong to an AMI.
pub(in crate::backends::aws) fn snapshots(ami: &Ami) -> Vec<String> {
    let mappings = ami.block_device_mappings().iter();
    mappings.filter_map(|mapping| mapping.ebs()?.snapshot_id().map(str::to_owned)).collect()
}

/// Who claims an AMI.
pub(in crate::backends::aws) fn holders(ami: &Ami) -> Vec<Holder> {
    claims(ami, Utc::now()).filter(|(_, is_lapsed)| !is_lapsed).map(|(holder, _)| holder).collect()
}

/// Claims that no state came to know of in time.
pub(super) fn lapsed(ami: &Ami) -> Vec<Holder> {
    claims(ami, Utc::now()).filter(|(_, is_lapsed)| *is_lapsed).map(|(holder, _)| holder).collect()
}

/// All claims, and whether their time is over.
fn claims(ami: &Ami, now: DateTime<Utc>) -> impl Iterator<Item = (Holder, bool)> {
    ami.tags().iter().filter_map(move |tag| {
        let holder = Holder::parse(tag.key()?.strip_prefix(tags::HOLDER)?)?;
        Some((holder, time(tag.value()).is_some_and(|until| until < now)))
    })
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::{BlockDeviceMapping, EbsBlockDevice, Tag};

    use super::*;

    fn ami(tags: &[(&str, &str)]) -> Ami {
        let ebs = EbsBlockDevice::builder().snapshot_id("snap-1").volume_size(8).build();
        let mut builder = Ami::builder()
            .image_id("ami-1")
            .name("web-1")
            .state(ImageState::Available)
            .creation_date("2026-01-02T03:04:05.000Z")
            .block_device_mappings(BlockDeviceMapping::builder().ebs(ebs).build());
        for (key, value) in tags {
            builder = builder.tags(Tag::builder().key(*key).value(*value).build());
        }
        builder.build()
    }

    #[test]
    fn tags_tell_what_an_image_is() {
        let key = "a".repeat(63);
        let image = image(
            "us-west-2",
            &ami(&[
                ("sindri_key", &key),
                ("sindri_base", "ami-0"),
                ("sindri_build_seconds", "90"),
                ("sindri_channel_production", "promoted"),
                ("sindri_holder_0123abcd", "held"),
                ("sindri_copy_eu-central-1", "ami-2"),
                ("sindri_copy_of", "us-east-1/ami-3"),
                ("sindri_unfinished_eu-central-1", "copying"),
                ("team", "web"),
                ("aws:x", "y"),
            ]),
        );
        assert_eq!(image.key.unwrap().as_str(), key);
        assert_eq!(image.labels.tags, BTreeMap::from([("team".to_owned(), "web".to_owned())]));
        assert_eq!(image.labels.channels.into_iter().collect::<Vec<_>>(), ["production"]);
        assert_eq!((image.resolved_base.as_deref(), image.build_seconds), (Some("ami-0"), Some(90)));
        assert_eq!(image.size_bytes, 8 << 30);
        assert_eq!(image.created_at.to_rfc3339(), "2026-01-02T03:04:05+00:00");
        assert_eq!(image.artifacts["us-west-2"].snapshot_ids, ["snap-1"]);
        assert_eq!(image.artifacts["eu-central-1"].image_id, "ami-2");
        assert_eq!(image.artifacts.len(), 2);
        assert_eq!(image.unfinished.into_iter().collect::<Vec<_>>(), ["eu-central-1"]);
    }

    #[test]
    fn a_claim_that_state_did_not_come_to_know_of_lapses() {
        let claimed = ami(&[
            ("sindri_holder_00000001", "held"),
            ("sindri_holder_00000002", "2026-01-02T03:00:00Z"),
            ("sindri_holder_00000003", "2026-01-02T03:00:01Z"),
            ("sindri_holder_00000004", "soon"),
        ]);
        let now = time(Some("2026-01-02T03:00:01Z")).unwrap();
        let lapsed: Vec<bool> = claims(&claimed, now).map(|(_, is_lapsed)| is_lapsed).collect();
        assert_eq!(lapsed, [false, true, false, false]);
    }

    #[test]
    fn strange_tags_are_passed_over() {
        let strange =
            ami(&[("sindri_holder_x", "held"), ("sindri_holder_00000000", "held"), ("sindri_key", "x y")]);
        assert_eq!(holders(&strange).len(), 1);
        assert_eq!(image("r", &strange).key, None);
    }
}
