//! Removes a machine and all that was made for it.

use aws_sdk_ec2::types::Instance;
use tokio_util::sync::CancellationToken;

use super::status::until_gone;
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
            let launch = surroundings::launch_of_any(region, id, instance.as_ref()).await?;
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
