//! What a plan says for a machine on AWS.

use tfplugin::{Attr, Diagnostics, Path, Plan, Value};

use super::model::VmModel;
use super::plan::{set, warn_of_restart};
use super::private::Private;
use crate::backends::Backends;
use crate::backends::aws::model::{AwsVmModel, REPLACES};
use crate::domain::Vm;

/// Where SSH listens when the user does not say.
const SSH_PORT: u16 = 22;

pub(super) fn plan_new(backends: Option<&Backends>, planned: &VmModel, plan: &mut Plan<VmModel>) {
    plan.set("store_id", Value::Null);
    let own = planned.aws.known().map(|aws| &aws.region);
    // The environment's region may be another where the plan is applied.
    let region = match own {
        Some(Attr::Known(region)) => Some(region.as_str()),
        Some(Attr::Null) => backends.and_then(|backends| backends.aws.configured_region()),
        _ => None,
    };
    if let Some(region) = region {
        plan.set("region", region);
    }
    plan_login(planned, plan);
}

pub(super) fn plan_change(
    prior: &VmModel,
    planned: &VmModel,
    private: &Private,
    plan: &mut Plan<VmModel>,
    diags: &mut Diagnostics,
) {
    let (Some(before), Some(after)) = (prior.aws.known(), planned.aws.known()) else { return };
    let aws = Path::from("aws");
    for name in REPLACES {
        let unrecorded = private.imported && plan.prior(aws.attr(*name)).is_none_or(Value::is_null);
        if !unrecorded {
            plan.require_replace(aws.attr(*name));
        }
    }
    if !after.region.is_null() && after.region != prior.region {
        plan.require_replace(aws.attr("region"));
    }
    // A group is made for the machine, or not: from one to the other there is no way.
    let made = |aws: &AwsVmModel| aws.security_group_ids.is_null();
    if made(before) != made(after) && !private.imported {
        plan.require_replace(aws.attr("security_group_ids"));
    }
    let key = |model: &VmModel| model.ssh.known().map_or(Attr::Null, |ssh| ssh.public_key.clone());
    if key(prior) != key(planned) && !(private.imported && key(prior).is_null()) {
        plan.require_replace("ssh");
    }
    let resized = before.instance_type != after.instance_type;
    if resized {
        warn_of_restart(prior, planned, &["instance_type"], aws.attr("instance_type"), diags);
    }
    if resized || prior.power_state != planned.power_state {
        // A stopped machine gives its public address back.
        plan.unknown("public_ip");
        plan.unknown("ssh_host");
        plan.unknown("ssh_command");
    }
    plan_login(planned, plan);
}

/// Plans how one logs in, as far as the configuration tells.
fn plan_login(planned: &VmModel, plan: &mut Plan<VmModel>) {
    if planned.ssh.is_unknown() {
        return;
    }
    let ssh = planned.ssh.clone().unwrap_or_default();
    let mut told: Vec<(&str, Value)> = Vec::new();
    if !ssh.username.is_unknown() {
        told.push(("ssh_username", ssh.username.known_deref().unwrap_or(planned.default_user()).into()));
    }
    if !ssh.port.is_unknown() {
        told.push(("ssh_port", i64::from(ssh.port.known().copied().unwrap_or(SSH_PORT)).into()));
    }
    if let Some(host) = ssh.host.known_deref() {
        told.push(("ssh_host", host.into()));
    }
    if let (Attr::Known(_), Some(path)) = (&ssh.public_key, ssh.private_key_path.known_deref()) {
        told.push(("ssh_private_key_path", path.into()));
    }
    for (name, value) in told {
        if plan.get(name) != Some(&value) {
            set(plan, name, value);
            plan.unknown("ssh_command");
        }
    }
}

impl VmModel {
    /// A machine that AWS runs, as far as it tells itself what was asked for.
    pub(super) fn imported(vm: &Vm) -> Self {
        let aws = AwsVmModel { instance_type: vm.size.clone().into(), ..AwsVmModel::default() };
        let model = Self {
            name: vm.name.as_str().into(),
            image_id: vm.image_id.as_str().into(),
            aws: Attr::Known(aws),
            ssh_port: SSH_PORT.into(),
            ..Self::default()
        };
        let username = model.default_user().into();
        Self { ssh_username: username, ..model }
    }
}
