//! What a plan says of how one logs in to a machine in a cloud.

use tfplugin::{Attr, Plan, Value};

use super::model::{SshModel, VmModel};
use super::observe::SSH_PORT;
use super::plan::set;

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
pub(super) fn plan_login(prior: Option<&VmModel>, planned: &VmModel, plan: &mut Plan<VmModel>) {
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
