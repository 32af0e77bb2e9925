//! An instance as a machine, and waiting for what becomes of it.

use std::time::Duration;

use aws_sdk_ec2::types::{Instance, InstanceStateName};
use tokio_util::sync::CancellationToken;

use super::VmError;
use crate::backends::aws::region::{Region, is_gone};
use crate::backends::aws::tags;
use crate::backends::aws::waiting::{LOOK, wait};
use crate::domain::Vm;
use crate::domain::vm_spec::PowerState;

/// For how many looks a new instance may not be known everywhere in EC2.
const UNKNOWN_LOOKS: u32 = 20;

/// How long work that is cancelled may take to fetch the machine's console.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(20);

/// The instance as resources see it. How one logs in is known to the state alone.
pub(super) fn view(region: &Region, instance: &Instance) -> Vm {
    let mut tags = tags::map(instance.tags());
    let name = tags.get(tags::NAME).cloned();
    tags.retain(|key, _| tags::is_users(key));
    let id = instance.instance_id().unwrap_or_default();
    let present = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    let public_ip = present(instance.public_ip_address());
    let private_ip = present(instance.private_ip_address());
    Vm {
        id: id.to_owned(),
        region: region.name.clone(),
        name: name.unwrap_or_else(|| id.to_owned()),
        image_id: instance.image_id().unwrap_or_default().to_owned(),
        status: power(instance),
        ssh_host: public_ip.clone().or_else(|| private_ip.clone()),
        public_ip,
        private_ip,
        login: None,
        console_log_path: None,
        size: instance.instance_type().map(|size| size.as_str().to_owned()),
        tags,
        surroundings: None,
    }
}

/// Whether it runs, or is about to.
pub(super) fn power(instance: &Instance) -> PowerState {
    match state(instance) {
        Some(InstanceStateName::Pending | InstanceStateName::Running) => PowerState::Running,
        _ => PowerState::Stopped,
    }
}

pub(super) fn state(instance: &Instance) -> Option<&InstanceStateName> {
    instance.state().and_then(|state| state.name())
}

/// Why it is in its state, in AWS's words.
pub(super) fn reason(instance: &Instance) -> Option<String> {
    instance.state_reason().and_then(|reason| reason.message()).map(str::to_owned)
}

/// The tag that tells which launch made an instance.
pub(super) fn launch_of(instance: &Instance) -> Option<String> {
    tags::map(instance.tags()).remove(tags::VM)
}

/// An instance and the volumes that go with it. Others were attached by hand, and are somebody else's.
pub(super) fn with_volumes(instance: &Instance) -> Vec<String> {
    let volumes = instance.block_device_mappings().iter().filter_map(|mapping| {
        let ebs = mapping.ebs()?;
        ebs.volume_id().filter(|_| ebs.delete_on_termination() == Some(true)).map(str::to_owned)
    });
    instance.instance_id().map(str::to_owned).into_iter().chain(volumes).collect()
}

/// Waits until an instance is in a state; returns it. One that is on its way to another is not waited for.
pub(in crate::backends::aws) async fn until(
    region: &Region,
    id: &str,
    wanted: &InstanceStateName,
    cancel: &CancellationToken,
) -> Result<Instance, VmError> {
    let (mut pause, mut unknown, mut starts) = (LOOK, 0, false);
    loop {
        match region.fresh_instance(id).await? {
            Some(instance) if state(&instance) == Some(wanted) => return Ok(instance),
            Some(instance) if is_gone(&instance) || (starts && stops(&instance)) => {
                let reason = reason(&instance).unwrap_or_else(|| "it gives no reason".to_owned());
                return Err(VmError::Ended { id: id.to_owned(), reason });
            }
            None if unknown >= UNKNOWN_LOOKS => {
                return Err(VmError::NotFound { id: id.to_owned(), region: region.name.clone() });
            }
            None => unknown += 1,
            Some(instance) => starts |= state(&instance) == Some(&InstanceStateName::Pending),
        }
        pause = wait(pause, cancel).await?;
    }
}

/// Whether it stops, or has. EC2 takes back a start that fails: of a volume, for instance, whose key it may not use any more.
fn stops(instance: &Instance) -> bool {
    matches!(state(instance), Some(InstanceStateName::Stopping | InstanceStateName::Stopped))
}

/// Waits until an instance has ended.
pub(in crate::backends::aws) async fn until_gone(
    region: &Region,
    id: &str,
    cancel: &CancellationToken,
) -> Result<(), VmError> {
    let mut pause = LOOK;
    loop {
        match region.fresh_instance(id).await? {
            Some(instance) if state(&instance) != Some(&InstanceStateName::Terminated) => {}
            _ => return Ok(()),
        }
        pause = wait(pause, cancel).await?;
    }
}
