//! AMIs that Packer made of a template of the user's own: looked at and deleted, with their snapshots, where Packer says
//! that they are. They have no tags of ours.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::{join_all, try_join_all};
use tokio_util::sync::CancellationToken;

use super::{delete, read};
use crate::backends::aws::region::{self, Region, filter};
use crate::backends::aws::{Aws, AwsError, model};
use crate::domain::{BackendError, Heard, Keeper, Made, Seen};

/// Builders and post-processors that make AMIs. Source: the constants `BuilderId` in packer-plugin-amazon 1.2.1. The id of
/// what they make is `REGION:AMI`, with commas between several.
const BUILDERS: [&str; 5] = [
    "mitchellh.amazonebs",
    "mitchellh.amazon.chroot",
    "mitchellh.amazon.ebssurrogate",
    "mitchellh.amazon.instance",
    "packer.post-processor.amazon-import",
];

/// Those of them that launch an instance, and say so, with the credentials by which they make the AMI.
const WITH_INSTANCES: [&str; 3] =
    ["mitchellh.amazonebs", "mitchellh.amazon.ebssurrogate", "mitchellh.amazon.instance"];

/// How far this computer's clock may be behind Amazon's.
const SKEW: TimeDelta = TimeDelta::minutes(5);

/// Looks after AMIs.
#[derive(Debug)]
pub struct AmiKeeper {
    aws: Arc<Aws>,
}

impl AmiKeeper {
    /// In the account that the provider works in.
    pub fn new(aws: Arc<Aws>) -> Self {
        Self { aws }
    }
}

#[async_trait]
impl Keeper for AmiKeeper {
    fn keeps(&self, made: &Made) -> bool {
        BUILDERS.contains(&made.builder_id.as_str()) && made.id.split(',').all(|one| place(one).is_some())
    }

    fn parts(&self, made: &Made) -> Vec<Made> {
        made.id.split(',').map(|id| Made { id: id.to_owned(), ..made.clone() }).collect()
    }

    async fn account(&self) -> Result<Option<String>, BackendError> {
        let account = self.aws.account().await;
        account.map(|it| Some(it.to_owned())).map_err(|error| error.into_backend("asking for the account"))
    }

    fn hear(&self, line: &str) -> Option<Heard> {
        if line.starts_with("Deregistering the AMI") {
            return Some(Heard::Removes);
        }
        if let Some(id) = line.strip_prefix("Instance ID: ").filter(|id| is_id(id, "i-")) {
            return Some(Heard::Works(id.to_owned()));
        }
        let id = line.strip_prefix("AMI: ").filter(|id| is_ami(id))?.to_owned();
        Some(Heard::Begins(Made { builder_id: BUILDERS[0].to_owned(), id, files: Vec::new(), managed: true }))
    }

    async fn was_here(&self, made: &Made) -> Result<bool, BackendError> {
        let Some((name, id)) = place(&made.id) else { return Ok(false) };
        let doing = format!("looking for what image {id} left");
        let region = self.aws.region_for(Some(name), &doing).await?;
        let left = delete::of_untagged(&region, id).await;
        left.map(|left| !left.is_empty()).map_err(|error| error.into_backend(doing.as_str()))
    }

    /// EC2 tells of an instance for about an hour after its end.
    async fn worked_here(&self, made: &Made, machines: &BTreeSet<String>) -> Result<bool, BackendError> {
        if !WITH_INSTANCES.contains(&made.builder_id.as_str()) {
            return Ok(false);
        }
        let failed = |error: AwsError| error.into_backend("looking for a build's machines");
        let regions = self.regions().await.map_err(failed)?;
        let by = || filter("instance-id", machines);
        let asked = regions.iter().map(|it| region::instances(&it.ec2, by()));
        let (seen, refused) = heard(join_all(asked).await);
        let seen: BTreeSet<_> =
            seen.into_iter().flat_map(|(_, seen)| seen).filter_map(|it| it.instance_id).collect();
        match refused {
            _ if machines.iter().all(|id| seen.contains(id)) => Ok(true),
            Some(error) => Err(failed(error)),
            None => Ok(false),
        }
    }

    /// A builder does not say in which region it works. One that is gone may have left something.
    async fn trace(&self, heard: &Made, since: DateTime<Utc>) -> Result<Option<Made>, BackendError> {
        let doing = format!("looking for image {}", heard.id);
        let found = self.find(&heard.id, since - SKEW).await.map_err(|error| error.into_backend(&doing))?;
        Ok(found.map(|region| Made { id: format!("{region}:{}", heard.id), ..heard.clone() }))
    }

    async fn look(&self, made: &Made) -> Result<Option<Seen>, BackendError> {
        let Some((name, id)) = place(&made.id) else { return Ok(None) };
        let doing = format!("reading image {id}");
        let region = self.aws.region_for(Some(name), &doing).await?;
        // What this process takes for gone may have come up since.
        let known = region.image(id).await.map_err(|error| error.into_backend(doing.as_str()))?;
        let ami = match known.filter(read::is_there) {
            Some(ami) => ami,
            None => match region.fresh_image(id).await.map_err(|error| error.into_backend(doing.as_str()))? {
                Some(ami) if read::is_there(&ami) => ami,
                _ => return Ok(None),
            },
        };
        let size_bytes = read::image(name, &ami).size_bytes;
        Ok(Some(Seen { artifact: Some((name.to_owned(), read::artifact(&ami))), size_bytes }))
    }

    async fn delete(&self, made: &Made, cancel: &CancellationToken) -> Result<Vec<String>, BackendError> {
        let Some((name, id)) = place(&made.id) else { return Ok(Vec::new()) };
        let doing = format!("deleting image {id}");
        let region = self.aws.region_for(Some(name), &doing).await?;
        let deleted = delete::untagged(&region, id, cancel).await;
        deleted.map_err(|error| error.into_backend(&doing))
    }
}

impl AmiKeeper {
    /// The region of the account's that has this AMI, made since then, or snapshots of it. Accounts have regions that let
    /// nobody in, and are listed all the same: these are an error only when no other has it.
    async fn find(&self, id: &str, since: DateTime<Utc>) -> Result<Option<String>, AwsError> {
        let regions = self.regions().await?;
        let name = |at: usize| regions.get(at).map(|region| region.name.clone());
        let asked = regions.iter().map(|region| own_image(region, id, since));
        let (found, refused) = heard(join_all(asked).await);
        if let Some((at, _)) = found.into_iter().find(|(_, is_there)| *is_there) {
            return Ok(name(at));
        }
        let asked = regions.iter().map(|region| delete::of_untagged(region, id));
        let (left, refused_too) = heard(join_all(asked).await);
        match left.into_iter().find(|(_, left)| !left.is_empty()) {
            Some((at, _)) => Ok(name(at)),
            None => refused.or(refused_too).map_or(Ok(None), Err),
        }
    }

    /// All that the account works in.
    async fn regions(&self) -> Result<Vec<Arc<Region>>, AwsError> {
        let names = self.aws.region_names().await?;
        try_join_all(names.iter().map(async |name| self.aws.region(Some(name)).await)).await
    }
}

/// The answers of regions, each with the region's place among all, and why one did not answer.
fn heard<T>(all: Vec<Result<T, AwsError>>) -> (Vec<(usize, T)>, Option<AwsError>) {
    let (mut answers, mut refused) = (Vec::new(), None);
    for (at, one) in all.into_iter().enumerate() {
        match one {
            Ok(answer) => answers.push((at, answer)),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    (answers, refused)
}

async fn own_image(region: &Region, id: &str, since: DateTime<Utc>) -> Result<bool, AwsError> {
    let asked = region.ec2.describe_images().owners("self").filters(filter("image-id", [id]));
    let found = region::images(asked.max_results(region::PAGE)).await?;
    Ok(found.iter().any(|(_, ami)| read::is_there(ami) && read::created_at(ami) >= since))
}

/// Region and AMI; none when it is no such thing.
fn place(id: &str) -> Option<(&str, &str)> {
    let (name, id) = id.split_once(':')?;
    model::region(name).ok()?;
    is_ami(id).then_some((name, id))
}

fn is_ami(id: &str) -> bool {
    is_id(id, "ami-")
}

fn is_id(id: &str, prefix: &str) -> bool {
    let digits = id.strip_prefix(prefix).unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::aws::AwsSettings;

    #[test]
    fn what_builders_say() {
        let keeper = AmiKeeper::new(Arc::new(Aws::new(AwsSettings::default(), "/d".into())));
        let begins = |id: &str| {
            let builder_id = "mitchellh.amazonebs".to_owned();
            Some(Heard::Begins(Made { builder_id, id: id.to_owned(), files: Vec::new(), managed: true }))
        };
        for (line, expected) in [
            ("AMI: ami-0123abcd", begins("ami-0123abcd")),
            ("Deregistering the AMI because cancellation or error...", Some(Heard::Removes)),
            ("Found Image ID: ami-0123abcd", None),
            ("Source AMI: ami-0123abcd", None),
            ("Instance ID: i-0123abcd", Some(Heard::Works("i-0123abcd".to_owned()))),
            ("Instance ID: ", None),
            ("AMI: none", None),
            ("AMI: ami-0123abcd, and more", None),
        ] {
            assert_eq!(keeper.hear(line), expected, "{line}");
        }
    }

    #[test]
    fn an_ami_says_where_it_is() {
        for (id, expected) in [
            ("us-west-2:ami-0123abcd", Some(("us-west-2", "ami-0123abcd"))),
            ("us-west-2:vol-0123abcd", None),
            ("ami-0123abcd", None),
            ("us-west-2:ami-", None),
            ("us-west-2:ami-1:2", None),
            ("here:ami-1", None),
            ("", None),
        ] {
            assert_eq!(place(id), expected, "{id}");
        }
    }
}
