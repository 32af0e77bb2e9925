//! What a plan says for a machine on AWS.

use tfplugin::{Attr, Diagnostics, Path, Plan, Value};

use super::model::{SshModel, VmModel};
use super::plan::{set, warn_of_restart};
use super::private::Private;
use crate::backends::Backends;
use crate::backends::aws::model::{AwsVmModel, REPLACES, is_none};
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
    plan_login(None, planned, plan);
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
    if after.iam_instance_profile.is_null() && !private.imported {
        // What is no longer managed would stay as it is.
        plan.require_replace(aws.attr("iam_instance_profile"));
    }
    if !after.region.is_null() && after.region != prior.region {
        plan.require_replace(aws.attr("region"));
    }
    // A group is made for the machine, or not: from one to the other there is no way.
    let made = |aws: &AwsVmModel| is_none(&aws.security_group_ids);
    if made(before) != made(after) && !private.imported {
        plan.require_replace(aws.attr("security_group_ids"));
    }
    let key = |model: &VmModel| model.ssh.known().map_or(Attr::Null, |ssh| ssh.public_key.clone());
    if key(prior) != key(planned) && !(private.imported && key(prior).is_null()) {
        plan.require_replace("ssh");
    }
    if after.spot == Attr::Known(true) {
        // EC2 does not stop it, which both need.
        plan.require_replace(aws.attr("instance_type"));
        plan.require_replace("power_state");
    }
    let resized = before.instance_type != after.instance_type;
    if resized && after.spot != Attr::Known(true) {
        warn_of_restart(prior, planned, &["instance_type"], aws.attr("instance_type"), diags);
    }
    if resized || prior.power_state != planned.power_state {
        // A stopped machine gives its public address back.
        plan.unknown("public_ip");
        plan.unknown("ssh_host");
        plan.unknown("ssh_command");
    }
    plan_login(Some(prior), planned, plan);
}

/// How one logs in, with all of it unknown while it is not known whether anything is said.
fn ssh_of(model: &VmModel) -> SshModel {
    match &model.ssh {
        Attr::Unknown => SshModel {
            username: Attr::Unknown,
            public_key: Attr::Unknown,
            private_key_path: Attr::Unknown,
            host: Attr::Unknown,
            port: Attr::Unknown,
        },
        ssh => ssh.clone().unwrap_or_default(),
    }
}

/// Plans how one logs in, as far as the configuration tells. What it no longer tells, or not yet, is unknown.
fn plan_login(prior: Option<&VmModel>, planned: &VmModel, plan: &mut Plan<VmModel>) {
    let ssh = ssh_of(planned);
    if let Some(before) = prior.map(ssh_of) {
        for (name, open) in [
            ("ssh_host", before.host != ssh.host && !ssh.host.is_known()),
            ("ssh_port", ssh.port.is_unknown()),
            ("ssh_username", ssh.username.is_unknown()),
            ("ssh_private_key_path", ssh.private_key_path.is_unknown()),
        ] {
            if open {
                plan.unknown(name);
                plan.unknown("ssh_command");
            }
        }
    }
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
    if ssh.public_key.is_known() && !ssh.private_key_path.is_unknown() {
        let path = ssh.private_key_path.known_deref().map_or(Value::Null, Into::into);
        told.push(("ssh_private_key_path", path));
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
