//! Removes a machine and all that was made for it.

use std::time::Duration;

use aws_sdk_ec2::types::Instance;
use tokio_util::sync::CancellationToken;

use super::status::{launch_of, until_gone};
use super::{LAUNCH, VmError, surroundings};
use crate::backends::aws::region::{Region, is_gone};
use crate::backends::aws::{Aws, AwsError};

/// How long a read waits for a machine that is on its way out.
const ENDING: Duration = Duration::from_secs(120);
/// How long a read waits for what was made for it to be free.
const IN_USE: Duration = Duration::from_secs(30);

/// Ends the instance, then removes key pair, security group and files. What is gone already is fine.
pub(super) async fn destroy(
    aws: &Aws,
    region: &Region,
    id: &str,
    cancel: &CancellationToken,
) -> Result<(), VmError> {
    let (instance, launch) = match id.strip_prefix(LAUNCH) {
        Some(launch) => (region.launched(launch).await?, Some(launch.to_owned())),
        None => {
            let instance = region.fresh_instance(id).await?;
            let launch = launch_of_any(region, id, instance.as_ref()).await?;
            (instance, launch)
        }
    };
    if let Some(id) = instance.as_ref().and_then(Instance::instance_id) {
        if !instance.as_ref().is_some_and(is_gone) {
            let asked = region.ec2.terminate_instances().instance_ids(id).send().await;
            match asked.map_err(|error| AwsError::of("TerminateInstances", error)) {
                Err(error) if error.is_gone() => {}
                other => drop(other?),
            }
        }
        until_gone(region, id, cancel).await?;
    }
    if let Some(launch) = launch {
        surroundings::remove(region, &launch, cancel).await?;
        aws.files(&launch).remove();
    }
    Ok(())
}

/// Whether a machine that somebody ends is gone, within the time that this takes as a rule.
pub(super) async fn has_ended(region: &Region, id: &str) -> Result<bool, AwsError> {
    let forever = CancellationToken::new();
    match tokio::time::timeout(ENDING, until_gone(region, id, &forever)).await {
        Err(_) => Ok(false),
        Ok(Err(VmError::Aws(error))) => Err(error),
        Ok(_) => Ok(true),
    }
}

/// Removes what is left of a machine that somebody else ended. Waits but a little.
pub(super) async fn remains(aws: &Aws, region: &Region, id: &str, instance: Option<&Instance>) {
    let cancel = CancellationToken::new();
    let removed = async {
        if let Some(launch) = launch_of_any(region, id, instance).await? {
            surroundings::remove(region, &launch, &cancel).await?;
            aws.files(&launch).remove();
        }
        Ok::<(), VmError>(())
    };
    match tokio::time::timeout(IN_USE, removed).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(machine = id, %error, "what is left of a machine that is gone cannot be removed");
        }
        Err(_) => tracing::warn!(machine = id, "what is left of a machine that is gone stays in use"),
    }
}

/// The launch that made an instance: an ended one keeps its tags for a while, its key pair for good.
async fn launch_of_any(
    region: &Region,
    id: &str,
    instance: Option<&Instance>,
) -> Result<Option<String>, AwsError> {
    match instance.and_then(launch_of) {
        Some(launch) => Ok(Some(launch)),
        None => surroundings::launch_for(region, id).await,
    }
}
