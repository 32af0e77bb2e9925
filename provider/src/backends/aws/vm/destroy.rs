//! Removes a machine and all that was made for it.

use aws_sdk_ec2::types::Instance;
use tokio_util::sync::CancellationToken;

use super::status::{launch_of, until_gone};
use super::{LAUNCH, VmError, surroundings};
use crate::backends::aws::region::{Region, is_gone};
use crate::backends::aws::{Aws, AwsError};

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

/// Removes what is left of a machine that somebody else ended. Does not wait.
pub(super) async fn remains(aws: &Aws, region: &Region, id: &str, instance: Option<&Instance>) {
    let impatient = CancellationToken::new();
    impatient.cancel();
    let removed = async {
        if let Some(launch) = launch_of_any(region, id, instance).await? {
            surroundings::remove(region, &launch, &impatient).await?;
            aws.files(&launch).remove();
        }
        Ok::<(), VmError>(())
    };
    if let Err(error) = removed.await {
        tracing::warn!(machine = id, %error, "what is left of a machine that is gone cannot be removed");
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
