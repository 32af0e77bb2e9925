//! What resources ask of `aws = { … }` of a machine.

use std::collections::BTreeMap;

use tfplugin::{Attr, Diagnostics, Draft, Path, Value};

use super::AwsVmModel;
use crate::backends::aws::model::words::is_none;
use crate::backends::aws::{CLOUD, model};
use crate::backends::{Backends, VmAround, VmChange, VmSection};
use crate::domain::{Vm, VmLauncher};

/// What makes a machine anew. The region does, too, compared with where the machine is.
const REPLACES: &[&str] = &["subnet_id", "associate_public_address", "spot", "root_volume"];

impl VmSection for AwsVmModel {
    fn cloud(&self) -> &'static str {
        CLOUD
    }

    fn offer(&self) -> &'static str {
        "`aws = {}` on EC2"
    }

    fn region(&self) -> Attr<&str> {
        self.region.as_ref().map(String::as_str)
    }

    fn first_user(&self) -> &'static str {
        model::FIRST_USER
    }

    fn validate(&self, around: &VmAround<'_>, path: &Path, diags: &mut Diagnostics) {
        self.check(path, around.is_reached, diags);
        if self.spot == Attr::Known(true) && around.power_state.known_deref() == Some("stopped") {
            let text = "EC2 does not stop a machine on spare capacity: set `spot = false`, or destroy the machine while it is not needed.";
            diags.error(Path::from("power_state"), "Spot machines cannot be stopped", text);
        }
        model::validate_tags(around.tags, diags);
        for (name, user_data) in around.user_data {
            Self::check_user_data(name, user_data, diags);
        }
    }

    fn check_all_tags(&self, all: &BTreeMap<String, String>, diags: &mut Diagnostics) {
        model::validate_all_tags(all, diags);
    }

    fn plan_change(&self, change: &VmChange<'_>, path: &Path, plan: &mut Draft, diags: &mut Diagnostics) {
        let Some(before) = change.before::<Self>() else { return };
        for name in REPLACES {
            let unrecorded = change.imported && plan.prior(path.attr(*name)).is_none_or(Value::is_null);
            if !unrecorded {
                plan.require_replace(path.attr(*name));
            }
        }
        if self.iam_instance_profile.is_null() && !change.imported {
            // What is no longer managed would stay as it is.
            plan.require_replace(path.attr("iam_instance_profile"));
        }
        if !self.region.is_null() && self.region != *change.region {
            plan.require_replace(path.attr("region"));
        }
        // A group is made for the machine, or not: from one to the other there is no way.
        let made = |aws: &Self| is_none(&aws.security_group_ids);
        if made(before) != made(self) && !change.imported {
            plan.require_replace(path.attr("security_group_ids"));
        }
        if self.spot == Attr::Known(true) {
            // EC2 does not stop it, which both need.
            plan.require_replace(path.attr("instance_type"));
            plan.require_replace("power_state");
        }
        let resized = before.instance_type != self.instance_type;
        if resized && self.spot != Attr::Known(true) {
            change.warn_of_restart(&["instance_type"], path.attr("instance_type"), diags);
        }
        if resized || plan.prior("power_state") != plan.get("power_state") {
            // A stopped machine gives its public address back.
            plan.unknown("public_ip");
            plan.unknown("ssh_host");
            plan.unknown("ssh_command");
        }
    }

    fn observe(&mut self, vm: &Vm, ssh_port: u16) {
        if let Some(size) = &vm.size {
            self.instance_type = size.as_str().into();
        }
        if let Some(seen) = &vm.surroundings {
            self.adopt(seen, ssh_port);
        }
    }

    fn launcher(&self, backends: &Backends, region: Option<&str>) -> Box<dyn VmLauncher> {
        Box::new(backends.aws.launcher(self.spec(region)))
    }

    fn imported(vm: &Vm) -> Self {
        Self { instance_type: vm.size.clone().into(), ..Self::default() }
    }
}
