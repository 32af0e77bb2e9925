//! The last of a build: an AMI gets its attributes and tags. The key comes last, in a request of its own: an image with
//! a key is complete. Made a moment ago, it may not be known everywhere in EC2.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{AttributeValue, Image as Ami, ImdsSupportValues};
use tokio::try_join;
use tokio_util::sync::CancellationToken;

use super::{Build, BuildError};
use crate::backends::aws::image::{describe, read};
use crate::backends::aws::region::Region;
use crate::backends::aws::waiting::once_known;
use crate::backends::aws::{AwsError, sweep, tags};
use crate::domain::Image;
use crate::journal::{Phase, Record};
use crate::provision;

/// The image is what was asked for: gives it its attributes, and writes down what its tags will be. Whoever comes after us
/// can complete it from here on. Returns how long it took to build.
pub(super) async fn accept(
    build: &Build<'_>,
    record: &mut Record,
    base: &Ami,
    ami: &Ami,
) -> Result<u64, BuildError> {
    let request = build.request;
    let id = ami.image_id().unwrap_or_default();
    build.log.step("Completing the image");
    let seconds = build.started.elapsed().as_secs();
    let given = || async { try_join!(give_attributes(build, ami), tag_snapshots(build, ami)) };
    once_known(&request.cancel, AwsError::is_gone, given).await?;
    if request.cancel.is_cancelled() {
        return Err(BuildError::Cancelled);
    }
    record.label(all_tags(build, base, seconds))?;
    record.advance(Phase::Accepted { image_id: id.to_owned() })?;
    Ok(seconds)
}

/// Completes an image that was accepted, and enters it among those that are known.
pub(super) async fn complete(
    build: &Build<'_>,
    record: &Record,
    base: &Ami,
    ami: &Ami,
    seconds: u64,
) -> Result<Image, BuildError> {
    let Build { region, request, .. } = build;
    let id = ami.image_id().unwrap_or_default();
    let completed = || sweep::complete(build.aws, record.entry(), ami, Some(&request.holder));
    let known = once_known(&CancellationToken::new(), AwsError::is_gone, completed).await?;
    let image = read::image(&region.name, known.as_ref().unwrap_or(ami));
    build.log.step(&format!("Image {id} is finished"));
    // EC2 may answer with the image as it was a moment ago.
    Ok(Image {
        key: Some(request.key.clone()),
        labels: request.labels.clone(),
        resolved_base: base.image_id().map(str::to_owned),
        build_seconds: Some(seconds),
        ..image
    })
}

/// All but the holder and the key.
fn all_tags(build: &Build<'_>, base: &Ami, seconds: u64) -> BTreeMap<String, String> {
    let request = build.request;
    let mut all = request.labels.tags.clone();
    all.extend([
        (tags::BASE.to_owned(), base.image_id().unwrap_or_default().to_owned()),
        (tags::BUILD_SECONDS.to_owned(), seconds.to_string()),
    ]);
    all.extend(request.labels.channels.iter().map(|name| tags::promoted_to(name)));
    let looked_for = provision::looked_for(request.spec.security, build.spec.for_everybody);
    if build.spec.verify_boot && !looked_for.is_empty() {
        all.insert(tags::LOOKED.to_owned(), looked_for.join(" "));
    }
    all
}

/// EC2 changes one attribute at a time.
async fn give_attributes(build: &Build<'_>, ami: &Ami) -> Result<(), AwsError> {
    if build.spec.imdsv2_required && ami.imds_support() != Some(&ImdsSupportValues::V20) {
        require_tokens(build.region, ami.image_id().unwrap_or_default()).await?;
    }
    let text = build.request.labels.description.as_deref();
    match text.filter(|text| Some(*text) != ami.description()) {
        Some(text) => describe(build.region, ami, text).await,
        None => Ok(()),
    }
}

/// Packer's own tags may have come too late for a policy, or not at all.
async fn tag_snapshots(build: &Build<'_>, ami: &Ami) -> Result<(), AwsError> {
    let snapshots = read::snapshots(ami);
    if snapshots.is_empty() {
        return Ok(());
    }
    build.region.tag(snapshots, build.request.labels.tags.clone()).await
}

/// Machines from the image give instance metadata to session tokens only. Afterwards, since not every Packer can have it
/// so from the start (`ModifyImageAttribute`, `ImdsSupport`).
async fn require_tokens(region: &Region, id: &str) -> Result<(), AwsError> {
    let value = AttributeValue::builder().value(ImdsSupportValues::V20.as_str()).build();
    let done = region.ec2.modify_image_attribute().image_id(id).imds_support(value).send().await;
    done.map(drop).map_err(|error| AwsError::of("ModifyImageAttribute", error))
}
