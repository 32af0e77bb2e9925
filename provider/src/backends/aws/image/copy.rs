//! Copies of an AMI in other regions. A copy is recorded on the home image as soon as it has an id. From before it is
//! asked for until it is ready and shared and aged like the image, its region is marked unfinished there: the next plan
//! goes on with it, and a deletion looks for what has no record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ec2::operation::copy_image::builders::CopyImageInputBuilder;
use aws_sdk_ec2::types::{Image as Ami, ImageState, ResourceType};
use tokio_util::sync::CancellationToken;

use super::delete::DeleteError;
use super::{delete, read};
use crate::backends::aws::region::Region;
use crate::backends::aws::{Aws, AwsError, tags};

/// The first pause between two looks at a copy; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// How often a fresh copy may be missing from EC2's answers: they lag behind.
const MISSING: usize = 10;

/// Why a region has no copy, or none that is ready.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyError {
    /// AWS refused something.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// One that failed cannot be removed.
    #[error(transparent)]
    Stays(#[from] DeleteError),
    /// EC2 gave up.
    #[error("EC2 did not finish copy {id}: {reason}\nThe next plan makes it again")]
    Failed {
        /// The copy.
        id: String,
        /// What EC2 says.
        reason: String,
    },
    /// Our time was over before.
    #[error("{Stopped}")]
    Stopped,
    /// Our time is over; EC2 goes on.
    #[error(
        "copy {id} was not ready in time\nEC2 goes on with it, and the next plan takes it up; `timeouts` says how long to wait"
    )]
    Late {
        /// The copy.
        id: String,
    },
}

/// Why something was not asked for, or was given up halfway.
#[derive(Debug, thiserror::Error)]
#[error(
    "it was stopped, or the time was over\nThe next plan goes on with it; `timeouts` says how long it may take"
)]
pub(super) struct Stopped;

/// A copy in a region.
pub(super) struct Copied {
    pub(super) region: Arc<Region>,
    pub(super) id: String,
    /// It is not the one that was recorded: nothing was done in it yet.
    pub(super) is_new: bool,
}

/// A region that is to have a copy of an image.
pub(super) struct Wanted<'a> {
    pub(super) aws: &'a Aws,
    pub(super) home: &'a Region,
    pub(super) ami: &'a Ami,
    /// The region.
    pub(super) name: &'a str,
    /// The copy that is recorded there.
    pub(super) recorded: Option<&'a str>,
    pub(super) cancel: &'a CancellationToken,
}

impl Wanted<'_> {
    /// The copy in the region: the one that is there, or a new one.
    pub(super) async fn ensure(&self) -> Result<Copied, CopyError> {
        let ensured = self.cancel.run_until_cancelled(self.found_or_begun()).await;
        ensured.unwrap_or(Err(CopyError::Stopped))
    }

    async fn found_or_begun(&self) -> Result<Copied, CopyError> {
        let Self { aws, home, ami, name, recorded, cancel } = self;
        let region = aws.region(Some(name)).await?;
        if let Some(id) = recorded
            && region.fresh_image(id).await?.is_some_and(|copy| read::is_there(&copy))
        {
            return Ok(Copied { region, id: (*id).to_owned(), is_new: false });
        }
        let of = origin(home, ami);
        // One that was asked for, and whose reply or record was lost.
        let (there, failed): (Vec<Ami>, Vec<Ami>) =
            region.copies_of(&of).await?.into_iter().partition(read::is_there);
        for copy in failed.iter().filter(|copy| copy.state() != Some(&ImageState::Deregistered)) {
            // It has the name, and may have snapshots that cost.
            for left in delete::one(&region, copy, cancel).await? {
                tracing::warn!(copy = copy.image_id(), left, "something of a failed copy stays");
            }
        }
        // Before the copy is asked for: where this mark is, one whose id gets lost is looked for.
        home.tag(ami.image_id(), [(format!("{}{name}", tags::UNFINISHED), "copying".to_owned())]).await?;
        let id = match there.first().and_then(|copy| copy.image_id().map(str::to_owned)) {
            Some(id) => id,
            None => start(&region, home, ami, &of).await?,
        };
        home.tag(ami.image_id(), [(format!("{}{name}", tags::COPY), id.clone())]).await?;
        Ok(Copied { region, id, is_new: true })
    }
}

/// What a copy says it is one of.
pub(super) fn origin(home: &Region, ami: &Ami) -> String {
    format!("{}/{}", home.name, ami.image_id().unwrap_or_default())
}

async fn start(region: &Region, home: &Region, ami: &Ami, of: &str) -> Result<String, CopyError> {
    let mut all: BTreeMap<String, String> = tags::map(ami.tags());
    all.retain(|key, _| tags::is_copied(key));
    all.insert(tags::COPY_OF.to_owned(), of.to_owned());
    let encrypted =
        ami.block_device_mappings().iter().any(|one| one.ebs().and_then(|ebs| ebs.encrypted()) == Some(true));
    let key = if encrypted { key(home, ami, &region.name).await? } else { None };
    // The SDK's own attempts after a lost reply make no second copy.
    let asked = request(&home.name, ami, encrypted, key, &all).client_token(uuid::Uuid::new_v4().to_string());
    let made = asked.send_with(&region.ec2).await.map_err(|error| AwsError::of("CopyImage", error))?;
    let id = made.image_id.ok_or(AwsError::Incomplete { operation: "CopyImage", what: "image id" })?;
    tracing::info!(image = ami.image_id(), copy = id, region = region.name, "a copy is being made");
    Ok(id)
}

/// The request, but for the token. Nothing says that a copy is plain: EC2 copies it as it is, and by the account's default.
fn request(
    home: &str,
    ami: &Ami,
    encrypted: bool,
    key: Option<String>,
    tags: &BTreeMap<String, String>,
) -> CopyImageInputBuilder {
    CopyImageInputBuilder::default()
        .name(ami.name().unwrap_or_default())
        .set_description(ami.description().filter(|text| !text.is_empty()).map(str::to_owned))
        .source_image_id(ami.image_id().unwrap_or_default())
        .source_region(home)
        .set_encrypted(encrypted.then_some(true))
        .set_kms_key_id(key)
        .tag_specifications(tags::specification(ResourceType::Image, tags))
        .tag_specifications(tags::specification(ResourceType::Snapshot, tags))
}

/// The image's key in another region, where it can be the same: a multi-Region key. With none, EC2 takes the account's
/// default one there.
async fn key(home: &Region, ami: &Ami, region: &str) -> Result<Option<String>, AwsError> {
    let asked = home.ec2.describe_snapshots().set_snapshot_ids(Some(read::snapshots(ami)));
    let told = asked.send().await.map_err(|error| AwsError::of("DescribeSnapshots", error))?;
    let arn = told.snapshots().iter().find_map(|snapshot| snapshot.kms_key_id());
    Ok(arn.and_then(|arn| replica(arn, &home.name, region)))
}

fn replica(arn: &str, home: &str, region: &str) -> Option<String> {
    arn.contains(":key/mrk-").then(|| arn.replacen(&format!(":{home}:"), &format!(":{region}:"), 1))
}

/// Waits until a copy can be launched from.
pub(super) async fn wait(region: &Region, id: &str, cancel: &CancellationToken) -> Result<(), CopyError> {
    let ready = cancel.run_until_cancelled(until_ready(region, id)).await;
    ready.unwrap_or_else(|| Err(CopyError::Late { id: id.to_owned() }))
}

async fn until_ready(region: &Region, id: &str) -> Result<(), CopyError> {
    let (mut pause, mut missing) = (FIRST_PAUSE, 0);
    loop {
        match region.fresh_image(id).await? {
            Some(copy) if copy.state() == Some(&ImageState::Available) => return Ok(()),
            Some(copy) if !read::is_there(&copy) => {
                let reason =
                    copy.state_reason().and_then(|reason| reason.message()).unwrap_or("no reason given");
                return Err(CopyError::Failed { id: id.to_owned(), reason: reason.to_owned() });
            }
            Some(_) => {}
            None if missing < MISSING => missing += 1,
            None => return Err(CopyError::Failed { id: id.to_owned(), reason: "it is gone".to_owned() }),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::aws::tests::told;

    #[test]
    fn requests_for_copies() {
        let ami = Ami::builder().image_id("ami-1").name("web-0123456789ab-012345").description("The web");
        let tags = BTreeMap::from([("sindri_copy_of".to_owned(), "us-west-2/ami-1".to_owned())]);
        let key = Some("arn:aws:kms:eu-west-1:123456789012:key/mrk-1".to_owned());
        let encrypted = request("us-west-2", &ami.clone().build(), true, key, &tags).client_token("t");
        insta::assert_snapshot!("encrypted", told(&encrypted.build().unwrap()));
        let plain = request("us-west-2", &ami.description("").build(), false, None, &tags);
        insta::assert_snapshot!("plain", told(&plain.client_token("t").build().unwrap()));
    }

    #[test]
    fn only_a_multi_region_key_goes_along() {
        let key = |id: &str, region: &str| format!("arn:aws:kms:{region}:123456789012:key/{id}");
        assert_eq!(
            replica(&key("mrk-1", "us-west-2"), "us-west-2", "eu-west-1"),
            Some(key("mrk-1", "eu-west-1"))
        );
        assert_eq!(replica(&key("1234", "us-west-2"), "us-west-2", "eu-west-1"), None);
    }
}
