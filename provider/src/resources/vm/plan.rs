//! What a plan for a machine says: what is known beforehand, what restarts it, what makes it anew.

use tfplugin::{Attr, Diagnostic, Diagnostics, Path, Plan, PlanRequest, Value};

use super::login::plan_login;
use super::model::VmModel;
use super::plan_local::{plan_key, plan_port};
use super::private::Private;
use crate::backends::{Backends, LOCAL, LOCAL_REGION, VmChange, VmSection};
use crate::diagnose;

/// What not every machine has. Where it is null it stays so, and is not "known after apply" with each change.
const NOT_EVERYWHERE: &[&str] = &[
    "public_ip",
    "private_ip",
    "ssh_host",
    "ssh_command",
    "ssh_private_key_path",
    "ssh_known_hosts_path",
    "console_log_path",
    "store_id",
];

pub(super) fn plan_machine(
    backends: Option<&Backends>,
    request: &PlanRequest<'_, VmModel>,
    plan: &mut Plan<VmModel>,
    diags: &mut Diagnostics,
) -> Result<(), Diagnostics> {
    let planned = plan.model()?;
    match backends {
        Some(backends) if !planned.tags.is_unknown() && backends.tagging.is_known() => {
            plan.set("tags_all", Value::object(planned.managed_tags(&backends.tagging)));
            if let Attr::Known(section) = planned.section() {
                section.check_all_tags(&planned.all_tags(&backends.tagging), diags);
            }
        }
        _ => plan.unknown("tags_all"),
    }
    if let Attr::Known(state) = &planned.power_state {
        plan.set("status", state.as_str());
    }
    let private = Private::read(request.prior_private);
    // What an imported machine is called in its cloud need not be its host name.
    if !private.imported {
        plan.require_replace("name");
    }
    let Attr::Known(section) = planned.section() else {
        // Which backend it is may still be unknown, or all that it is asked for: that may make a machine anew.
        for slot in planned.slots().iter().filter(|slot| slot.section().is_unknown()) {
            plan.require_replace(slot.cloud());
        }
        return Ok(());
    };
    match request.prior {
        None => {
            plan_new(backends, &planned, section, plan);
            if planned.power_state == Attr::Known("running".into()) {
                for (attribute, problem) in section.launch_problems() {
                    diags.error(diagnose::attribute_path(&attribute), "Impossible machine", problem);
                }
            }
        }
        Some(prior) => {
            plan_change(prior, &planned, section, &private, plan, diags);
            if let (Some(backends), true) = (backends, section.cloud() == LOCAL) {
                plan_port(backends, prior, &planned, plan);
            }
        }
    }
    Ok(())
}

fn plan_new(
    backends: Option<&Backends>,
    planned: &VmModel,
    section: &dyn VmSection,
    plan: &mut Plan<VmModel>,
) {
    plan.set("cloud", section.cloud());
    if section.cloud() == LOCAL {
        match planned.ssh.as_ref().map(|ssh| &ssh.username) {
            Attr::Unknown | Attr::Known(Attr::Unknown) => {}
            username => {
                let named = username.known().and_then(|name| name.known_deref());
                plan.set("ssh_username", named.unwrap_or(section.first_user()));
            }
        }
        plan.set("region", LOCAL_REGION);
        plan.set("ssh_host", "127.0.0.1");
        plan.set("public_ip", Value::Null);
        plan.set("private_ip", Value::Null);
        return;
    }
    plan.set("store_id", Value::Null);
    // The environment's region may be another where the plan is applied.
    let region = match section.region() {
        Attr::Known(region) => Some(region.to_owned()),
        Attr::Null => backends.and_then(|backends| backends.configured_region(section.cloud())),
        Attr::Unknown => None,
    };
    if let Some(region) = region {
        plan.set("region", region);
    }
    plan_login(None, planned, plan);
}

fn plan_change(
    prior: &VmModel,
    planned: &VmModel,
    section: &dyn VmSection,
    private: &Private,
    plan: &mut Plan<VmModel>,
    diags: &mut Diagnostics,
) {
    let cloud = section.cloud();
    if prior.cloud.is_known() && prior.cloud.known_deref() != Some(cloud) {
        plan.require_replace(cloud);
        return;
    }
    if prior.has_ended() {
        plan.require_replace("status");
    }
    plan_user_data(planned, private, plan, diags);
    plan.keep_nulls(NOT_EVERYWHERE);
    if cloud == LOCAL {
        plan_key(prior, planned, plan);
    } else {
        let key = |model: &VmModel| match &model.ssh {
            Attr::Unknown => Attr::Unknown,
            ssh => ssh.known().map_or(Attr::Null, |ssh| ssh.public_key.clone()),
        };
        if key(prior) != key(planned) && !(private.imported && key(prior).is_null()) {
            plan.require_replace("ssh");
        }
    }
    let change = VmChange {
        prior: prior.section(),
        region: &prior.region,
        imported: private.imported,
        runs: prior.status.known_deref() == Some("running")
            && planned.power_state == Attr::Known("running".into()),
    };
    section.plan_change(&change, &Path::from(cloud), plan, diags);
    if cloud != LOCAL {
        plan_login(Some(prior), planned, plan);
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
