//! AMIs that Packer made of a template of the user's own: looked at and deleted, with their snapshots, where Packer says
//! that they are. They have no tags of ours.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{delete, read};
use crate::backends::aws::Aws;
use crate::backends::aws::model::region;
use crate::domain::{BackendError, Keeper, Made, Seen};

/// Builders and post-processors that make AMIs. Source: the constants `BuilderId` in packer-plugin-amazon 1.2.1. The id of
/// what they make is `REGION:AMI`, with commas between several.
const BUILDERS: [&str; 5] = [
    "mitchellh.amazonebs",
    "mitchellh.amazon.chroot",
    "mitchellh.amazon.ebssurrogate",
    "mitchellh.amazon.instance",
    "packer.post-processor.amazon-import",
];

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

/// Region and AMI; none when it is no such thing.
fn place(id: &str) -> Option<(&str, &str)> {
    let (name, id) = id.split_once(':')?;
    region(name).ok()?;
    let digits = id.strip_prefix("ami-")?;
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some((name, id))
}

#[cfg(test)]
mod tests {
    use super::*;

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
