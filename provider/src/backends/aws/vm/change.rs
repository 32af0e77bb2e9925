//! Changes a machine in place: tags, networks, size, power.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{AttributeValue, Instance, InstanceStateName};
use tokio_util::sync::CancellationToken;

use super::create::{check_login, own_port, port};
use super::status::{launch_of, power, state, until, view, with_volumes};
use super::{AwsVmSpec, VmError, settings, surroundings, up};
use crate::backends::aws::region::{Region, is_gone};
use crate::backends::aws::{Aws, AwsError, tags};
use crate::domain::vm_spec::PowerState;
use crate::domain::{Vm, VmLogin, VmRequest};

/// Brings a machine to what is asked for. A change of size restarts one that runs.
pub(super) async fn change(
    aws: &Aws,
    region: &Region,
    id: &str,
    spec: &AwsVmSpec,
    request: &VmRequest,
    cancel: &CancellationToken,
) -> Result<Vm, VmError> {
    let gone = || VmError::NotFound { id: id.to_owned(), region: region.name.clone() };
    let instance = region.fresh_instance(id).await?.filter(|instance| !is_gone(instance)).ok_or_else(gone)?;
    let launch = launch_of(&instance);
    let resized = instance.instance_type().is_none_or(|size| size.as_str() != spec.instance_type);
    let files = aws.files(launch.as_deref().unwrap_or(id));
    if request.spec.power_state == PowerState::Running && (resized || power(&instance) == PowerState::Stopped)
    {
        check_login(&request.spec, Some(&files))?;
    }
    let groups = settings::check_networks(region, launch.as_deref(), spec).await?;
    retag(region, &instance, request).await?;
    for group in groups {
        let cidrs = spec.allowed_cidrs.as_deref();
        surroundings::admit(region, &group, cidrs, own_port(&request.spec.ssh)).await?;
    }
    settings::change(region, &instance, spec, cancel).await?;
    let settled = settled(region, &instance, cancel).await?;
    let mut runs = power(&settled) == PowerState::Running;
    let ran = runs;
    if runs && (resized || request.spec.power_state == PowerState::Stopped) {
        stop(region, id, cancel).await?;
        runs = false;
    }
    if resized && let Err(refused) = resize(region, id, spec, request).await {
        if ran && request.spec.power_state == PowerState::Running {
            // With the size that it had. What AWS refused is what the user must hear of.
            if let Err(error) = start(region, id, cancel).await {
                tracing::warn!(machine = id, %error, "a machine that was stopped for a change does not start again");
            }
        }
        return Err(refused);
    }
    let mut vm = None;
    if !runs && request.spec.power_state == PowerState::Running {
        let started = start(region, id, cancel).await?;
        let started = with_login(aws, launch.as_deref(), view(region, &started), request);
        up::wait(region, &started, &request.spec, &files, cancel).await?;
        // How one logs in is in state already.
        vm = Some(Vm { login: None, ..started });
    }
    match vm {
        Some(vm) => Ok(vm),
        None => {
            let now = region.fresh_instance(id).await?.filter(|instance| !is_gone(instance));
            Ok(view(region, &now.ok_or_else(gone)?))
        }
    }
}

/// The instance once it is neither starting nor stopping: EC2 refuses changes meanwhile.
async fn settled(
    region: &Region,
    instance: &Instance,
    cancel: &CancellationToken,
) -> Result<Instance, VmError> {
    let id = instance.instance_id().unwrap_or_default();
    match state(instance) {
        Some(InstanceStateName::Stopping) => until(region, id, &InstanceStateName::Stopped, cancel).await,
        Some(InstanceStateName::Pending) => until(region, id, &InstanceStateName::Running, cancel).await,
        _ => Ok(instance.clone()),
    }
}

/// For waiting: the state keeps how one logs in, and the request tells it again.
fn with_login(aws: &Aws, launch: Option<&str>, vm: Vm, request: &VmRequest) -> Vm {
    let access = &request.spec.ssh;
    let files = launch.map(|launch| aws.files(launch));
    let login = VmLogin {
        port: port(access),
        username: access.username.clone(),
        private_key_path: match &access.public_key {
            Some(_) => access.private_key_path.clone(),
            None => files.as_ref().map(super::Files::private_key),
        },
        known_hosts_path: files.as_ref().map(super::Files::known_hosts),
    };
    Vm { login: Some(login), ..vm }
}

/// Sets the tags that differ, on the instance and its volumes, and removes those that are no longer managed.
async fn retag(region: &Region, instance: &Instance, request: &VmRequest) -> Result<(), VmError> {
    let (set, removed) = retagged(&tags::map(instance.tags()), request);
    let objects = with_volumes(instance);
    region.tag(&objects, set).await?;
    Ok(region.untag(objects, removed).await?)
}

/// Tags to be set, and those to be removed. Ours, by which a launch is found again, are neither, whatever is asked for.
fn retagged(have: &BTreeMap<String, String>, request: &VmRequest) -> (BTreeMap<String, String>, Vec<String>) {
    let wanted = &request.spec.tags;
    let is_managed = |key: &String| request.managed_tags.contains(key) && !wanted.contains_key(key);
    let mut set = wanted.clone();
    set.retain(|key, value| tags::is_users(key) && have.get(key) != Some(value));
    let name = tags::NAME.to_owned();
    if is_managed(&name) {
        set.insert(name, request.spec.name.clone());
    }
    let removed = have.keys().filter(|key| is_managed(key) && tags::is_users(key) && *key != tags::NAME);
    (set, removed.cloned().collect())
}

async fn resize(region: &Region, id: &str, spec: &AwsVmSpec, request: &VmRequest) -> Result<(), VmError> {
    let size = AttributeValue::builder().value(&spec.instance_type).build();
    let done = region.ec2.modify_instance_attribute().instance_id(id).instance_type(size).send().await;
    let done = done.map_err(|error| AwsError::of("ModifyInstanceAttribute", error));
    done.map(drop).map_err(|error| VmError::launching(error, &request.image_id, &region.name))
}

/// Stops an instance and waits for that.
pub(super) async fn stop(region: &Region, id: &str, cancel: &CancellationToken) -> Result<Instance, VmError> {
    let asked = region.ec2.stop_instances().instance_ids(id).send().await;
    asked.map_err(|error| AwsError::of("StopInstances", error))?;
    until(region, id, &InstanceStateName::Stopped, cancel).await
}

async fn start(region: &Region, id: &str, cancel: &CancellationToken) -> Result<Instance, VmError> {
    let asked = region.ec2.start_instances().instance_ids(id).send().await;
    let asked = asked.map_err(|error| AwsError::of("StartInstances", error));
    asked.map_err(|error| VmError::launching(error, "", &region.name))?;
    until(region, id, &InstanceStateName::Running, cancel).await
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;
    use crate::domain::vm_spec::{SshAccess, VmSpec, WaitFor};

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    fn map(pairs: Pairs<'_>) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn request(wanted: Pairs<'_>, managed: &[&str]) -> VmRequest {
        let ssh = SshAccess {
            username: "ubuntu".into(),
            public_key: None,
            private_key_path: None,
            host: None,
            port: None,
        };
        VmRequest {
            spec: VmSpec {
                name: "it".into(),
                power_state: PowerState::Running,
                user_data: None,
                user_data_is_secret: false,
                ssh,
                wait_for: WaitFor::None,
                tags: map(wanted),
            },
            image_id: String::new(),
            inputs: serde_json::Value::Null,
            managed_tags: managed.iter().map(|key| (*key).to_owned()).collect(),
            deadline: Utc::now(),
            stop: CancellationToken::new(),
        }
    }

    #[test]
    fn tags_by_which_a_launch_is_found_stay() {
        let have = map(&[("Name", "x"), ("sindri_vm", "launch"), ("role", "a"), ("theirs", "1")]);
        type Case<'a> = (Pairs<'a>, &'a [&'a str], Pairs<'a>, &'a [&'a str]);
        let cases: &[Case<'_>] = &[
            (&[("role", "a")], &["role"], &[], &[]),
            (&[("role", "b"), ("team", "c")], &["role"], &[("role", "b"), ("team", "c")], &[]),
            (&[], &["role", "gone"], &[], &["role"]),
            (&[("Name", "y")], &[], &[("Name", "y")], &[]),
            (&[], &["Name"], &[("Name", "it")], &[]),
            (&[("sindri_vm", "x"), ("aws:x", "y")], &[], &[], &[]),
            (&[], &["sindri_vm", "aws:x"], &[], &[]),
        ];
        for (wanted, managed, set, removed) in cases {
            let told = retagged(&have, &request(wanted, managed));
            let removed = removed.iter().map(|key| (*key).to_owned()).collect();
            assert_eq!(told, (map(set), removed), "{wanted:?} {managed:?}");
        }
    }
}
