//! Removes a machine and all that was made for it.

use aws_sdk_ec2::types::{Instance, InstanceStateName};
use tokio_util::sync::CancellationToken;

use super::status::{state, until_gone};
use super::{LAUNCH, VmError, surroundings};
use crate::backends::aws::region::Region;
use crate::backends::aws::{Aws, AwsError};

/// Ends the instance, then removes key pair, security group and files. What is gone already is fine.
pub(super) async fn destroy(
    aws: &Aws,
    region: &Region,
    id: &str,
    cancel: &CancellationToken,
) -> Result<(), VmError> {
    if let Some(launch) = id.strip_prefix(LAUNCH) {
        let instance = region.launched(launch).await?;
        let id = instance.as_ref().and_then(Instance::instance_id);
        return end(aws, region, id, Some(launch), cancel).await;
    }
    let instance = region.fresh_instance(id).await?;
    let launch = surroundings::launch_of_any(region, id, instance.as_ref()).await?;
    let has_ended = instance.as_ref().is_some_and(|it| state(it) == Some(&InstanceStateName::Terminated));
    end(aws, region, (!has_ended).then_some(id), launch.as_deref(), cancel).await
}

/// The same for an instance and a launch that are known. It is asked for its end whether it is seen or not: a place in EC2
/// that has not heard of a new one does not tell that there is none.
pub(super) async fn end(
    aws: &Aws,
    region: &Region,
    instance: Option<&str>,
    launch: Option<&str>,
    cancel: &CancellationToken,
) -> Result<(), VmError> {
    if let Some(id) = instance {
        let asked = region.ec2.terminate_instances().instance_ids(id).send().await;
        match asked.map_err(|error| AwsError::of("TerminateInstances", error)) {
            Err(error) if error.is_gone() => {}
            other => drop(other?),
        }
        until_gone(region, id, cancel).await?;
    }
    if let Some(launch) = launch {
        surroundings::remove(region, launch, cancel).await?;
        aws.files(launch).remove();
    }
    Ok(())
}
