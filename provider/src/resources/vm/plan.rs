//! What a plan for a machine says: what is known beforehand, what restarts it, what makes it anew.

use tfplugin::{Attr, Diagnostic, Diagnostics, Path, Plan, PlanRequest, Value};

use super::model::VmModel;
use super::plan_aws;
use super::private::Private;
use crate::backends::{Backends, qemu};

/// What a running machine only takes up when it is started again.
const RESTARTS: &[&str] = &["cpus", "memory_mb", "disk_size_gb", "ports"];

pub(super) fn refine(
    backends: Option<&Backends>,
    request: &PlanRequest<'_, VmModel>,
    plan: &mut Plan<VmModel>,
    diags: &mut Diagnostics,
) -> Result<(), Diagnostics> {
    let planned = plan.model()?;
    match backends {
        Some(backends) if !planned.tags.is_unknown() && backends.tagging.is_known() => {
            set(plan, "tags_all", Value::object(planned.managed_tags(&backends.tagging)));
        }
        _ => plan.unknown("tags_all"),
    }
    if let Attr::Known(state) = &planned.power_state {
        set(plan, "status", state.as_str().into());
    }
    let private = Private::read(request.prior_private);
    // What an imported machine is called in its cloud need not be its host name.
    if !private.imported {
        plan.require_replace("name");
    }
    // Which backend it is may still be unknown.
    if planned.qemu.is_unknown() || planned.aws.is_unknown() {
        return Ok(());
    }
    match request.prior {
        None => plan_new(backends, &planned, plan),
        Some(prior) => plan_change(prior, &planned, &private, plan, diags),
    }
    Ok(())
}

/// Sets what differs only, so that a plan without changes stays without.
pub(super) fn set(plan: &mut Plan<VmModel>, name: &str, value: Value) {
    if plan.get(name) != Some(&value) {
        plan.set(name, value);
    }
}

fn plan_new(backends: Option<&Backends>, planned: &VmModel, plan: &mut Plan<VmModel>) {
    plan.set("cloud", planned.configured_cloud());
    match &planned.ssh {
        Attr::Unknown => {}
        Attr::Null => plan.set("ssh_username", planned.default_user()),
        Attr::Known(ssh) => match &ssh.username {
            Attr::Unknown => {}
            username => {
                plan.set("ssh_username", username.known_deref().unwrap_or(planned.default_user()));
            }
        },
    }
    if planned.aws.is_known() {
        plan_aws::plan_new(backends, planned, plan);
        return;
    }
    plan.set("region", qemu::REGION);
    plan.set("ssh_host", "127.0.0.1");
    plan.set("public_ip", Value::Null);
    plan.set("private_ip", Value::Null);
}

fn plan_change(
    prior: &VmModel,
    planned: &VmModel,
    private: &Private,
    plan: &mut Plan<VmModel>,
    diags: &mut Diagnostics,
) {
    if prior.cloud.is_known() && prior.cloud.known_deref() != Some(planned.configured_cloud()) {
        plan.require_replace(planned.configured_cloud());
        return;
    }
    if prior.has_ended() {
        plan.require_replace("status");
    }
    plan_user_data(planned, private, plan, diags);
    if planned.aws.is_known() {
        plan_aws::plan_change(prior, planned, private, plan, diags);
        return;
    }
    // A machine on this computer has neither: not "known after apply" with each change.
    for name in ["public_ip", "private_ip"] {
        if plan.prior(name).is_some_and(Value::is_null) {
            plan.keep(name);
        }
    }
    plan.require_replace("ssh");
    let size = |model: &VmModel| model.qemu.known().and_then(|qemu| qemu.disk_size_gb.known().copied());
    if let (Some(old), Some(new)) = (size(prior), size(planned))
        && new < old
    {
        let at = Path::from("qemu").attr("disk_size_gb");
        let text = format!(
            "A disk can only grow: it has {old} GiB, and {new} are asked for. The machine is made anew, without what is on the disk."
        );
        plan.require_replace(at.clone());
        diags.push(Diagnostic::warning("Disk cannot shrink", text).at(at));
    }
    let qemu = Path::from("qemu");
    let restarts: Vec<_> = RESTARTS
        .iter()
        .filter(|name| plan.prior(qemu.attr(**name)) != plan.get(qemu.attr(**name)))
        .copied()
        .collect();
    warn_of_restart(prior, planned, &restarts, qemu, diags);
}

/// Tells that a machine which runs is restarted.
pub(super) fn warn_of_restart(
    prior: &VmModel,
    planned: &VmModel,
    changed: &[&str],
    at: Path,
    diags: &mut Diagnostics,
) {
    let runs =
        prior.status.known_deref() == Some("running") && planned.power_state == Attr::Known("running".into());
    if runs && !changed.is_empty() {
        let changed = changed.join(", ");
        let text = format!("A change of {changed} takes effect when the machine starts: apply restarts it.");
        diags.push(Diagnostic::warning("Machine will be restarted", text).at(at));
    }
}

fn plan_user_data(planned: &VmModel, private: &Private, plan: &mut Plan<VmModel>, diags: &mut Diagnostics) {
    let changed: Vec<_> = ["user_data", "user_data_wo_version"]
        .into_iter()
        .filter(|name| plan.prior(*name) != plan.get(*name))
        .filter(|name| !(private.imported && plan.prior(*name).is_none_or(Value::is_null)))
        .collect();
    for name in changed {
        if planned.user_data_replace_on_change == Attr::Known(true) {
            plan.require_replace(name);
        } else {
            let text = "cloud-init reads user data once, at first boot: the change is recorded and the machine does not see it. Set `user_data_replace_on_change = true` to make the machine anew.";
            diags.push(Diagnostic::warning("User data takes no effect", text).at(name));
        }
    }
}
