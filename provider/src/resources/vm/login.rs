//! What a plan says of how one logs in to a machine: in a cloud all of it, on this computer the user's own key.

use tfplugin::{Attr, Plan, Value};

use super::model::{SshModel, VmModel};
use super::observe::SSH_PORT;

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
    let username = match &ssh.username {
        Attr::Unknown => Value::Unknown,
        name => name.known_deref().unwrap_or(planned.default_user()).into(),
    };
    let port = match &ssh.port {
        Attr::Unknown => Value::Unknown,
        port => i64::from(port.known().copied().unwrap_or(SSH_PORT)).into(),
    };
    plan_part("ssh_username", username, plan);
    plan_part("ssh_port", port, plan);
    match ssh.host.known_deref() {
        Some(host) => plan_part("ssh_host", host.into(), plan),
        None if prior.is_some_and(|prior| ssh_of(prior).host != ssh.host) => {
            plan_part("ssh_host", Value::Unknown, plan);
        }
        None => {}
    }
    plan_private_key(&ssh, plan);
}

/// Plans where the user's own private key lies. Where the user has none, the configuration does not tell.
pub(super) fn plan_private_key(ssh: &SshModel, plan: &mut Plan<VmModel>) {
    let path = match (&ssh.public_key, &ssh.private_key_path) {
        (Attr::Null, _) => return,
        (Attr::Unknown, _) | (_, Attr::Unknown) => Value::Unknown,
        (_, path) => path.known_deref().map_or(Value::Null, Into::into),
    };
    plan_part("ssh_private_key_path", path, plan);
}

/// What differs makes another command of it.
fn plan_part(name: &str, value: Value, plan: &mut Plan<VmModel>) {
    if value == Value::Unknown || plan.get(name) != Some(&value) {
        plan.set(name, value);
        plan.unknown("ssh_command");
    }
}
