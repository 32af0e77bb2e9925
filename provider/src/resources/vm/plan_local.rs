//! What a plan says of how one logs in to a machine on this computer.

use tfplugin::{Attr, Plan};

use super::login::plan_private_key;
use super::model::VmModel;
use crate::backends::Backends;

/// Who may log in to a machine on this computer is written into its disk at first boot. Where the user's own key lies is not.
pub(super) fn plan_key(prior: &VmModel, planned: &VmModel, plan: &mut Plan<VmModel>) {
    let written = |model: &VmModel| {
        let Some(ssh) = model.ssh.known() else { return model.ssh.is_null().then_some((None, None)) };
        let known = !ssh.username.is_unknown() && !ssh.public_key.is_unknown();
        let username = ssh.username.known_deref().filter(|name| *name != model.default_user());
        let key = ssh.public_key.known_deref().map(str::trim_end);
        known.then(|| (username.map(str::to_owned), key.map(str::to_owned)))
    };
    let (before, after) = (written(prior), written(planned));
    if after.is_none() || before != after {
        plan.require_replace("ssh");
        return;
    }
    if let Some(ssh) = planned.ssh.known() {
        plan_private_key(ssh, plan);
    }
}

/// A machine that stands still holds no port: when somebody else has taken the one for SSH, it gets another as it starts.
pub(super) fn plan_port(backends: &Backends, prior: &VmModel, planned: &VmModel, plan: &mut Plan<VmModel>) {
    let starts =
        prior.status.known_deref() == Some("stopped") && planned.power_state == Attr::Known("running".into());
    if starts && prior.ssh_port.known().is_some_and(|port| backends.local.is_port_taken(*port)) {
        plan.unknown("ssh_port");
        plan.unknown("ssh_command");
    }
}
