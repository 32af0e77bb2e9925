//! The key pair of a launch.

use std::collections::BTreeMap;

use aws_sdk_ec2::primitives::Blob;
use aws_sdk_ec2::types::ResourceType;

use super::name;
use crate::backends::aws::region::{Region, filter};
use crate::backends::aws::{AwsError, tags};

/// Imports the public half of a machine's key. Returns the pair's id.
pub(in crate::backends::aws) async fn import_key(
    region: &Region,
    launch: &str,
    public_key: &str,
    tags: &BTreeMap<String, String>,
) -> Result<String, AwsError> {
    let imported = region
        .ec2
        .import_key_pair()
        .key_name(name(launch))
        .public_key_material(Blob::new(public_key.trim_end()))
        .tag_specifications(tags::specification(ResourceType::KeyPair, tags))
        .send()
        .await;
    match imported.map_err(|error| AwsError::of("ImportKeyPair", error)) {
        Ok(pair) => Ok(pair.key_pair_id.unwrap_or_default()),
        // The reply to an earlier attempt was lost: the name is this launch's own.
        Err(error) if error.code() == Some("InvalidKeyPair.Duplicate") => {
            let pairs = key_pairs(region, "key-name", &name(launch)).await?;
            pairs.into_iter().next().map(|(_, id, _)| id).ok_or(error)
        }
        Err(error) => Err(error),
    }
}

/// Name, id and launch of key pairs.
pub(super) async fn key_pairs(
    region: &Region,
    by: &str,
    value: &str,
) -> Result<Vec<(String, String, Option<String>)>, AwsError> {
    let found = region.ec2.describe_key_pairs().filters(filter(by, [value])).send().await;
    let found = found.map_err(|error| AwsError::of("DescribeKeyPairs", error))?;
    let pairs = found.key_pairs().iter();
    Ok(pairs
        .map(|pair| {
            let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
            (text(pair.key_name()), text(pair.key_pair_id()), tags::map(pair.tags()).remove(tags::VM))
        })
        .collect())
}
