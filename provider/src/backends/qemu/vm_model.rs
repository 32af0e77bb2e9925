//! `qemu = { … }` of a machine, as it stands in configuration and state.

use std::collections::{BTreeMap, BTreeSet};

use tfplugin::{Attr, Diagnostic, Diagnostics, Draft, Model, Path};

use super::host::Emulator;
use super::model::{CPUS, MEMORY_MB};
use super::vm::{Port, Protocol, QemuVmSpec};
use super::{Arch, CLOUD, REGION};
use crate::backends::{Backends, Problems, VmAround, VmChange, VmSection};
use crate::domain::rules::{arch, one_of, port, positive};
use crate::domain::{Vm, VmLauncher, names};

/// What a running machine only takes up when it is started again.
const RESTARTS: &[&str] = &["cpus", "memory_mb", "disk_size_gb", "ports"];

/// Runs the machine on this computer with QEMU.
#[derive(Debug, Clone, Default, Model)]
pub struct QemuVmModel {
    /// The machine's architecture: `"x86_64"` or `"arm64"`.
    #[attr(optional, default = Arch::default().name().to_owned(), requires_replace, validate = arch)]
    pub arch: Attr<String>,
    /// Processors. A change restarts the machine.
    #[attr(optional, default = CPUS, validate = positive)]
    pub cpus: Attr<u32>,
    /// Memory in MiB. A change restarts the machine.
    #[attr(optional, default = MEMORY_MB, validate = memory)]
    pub memory_mb: Attr<u32>,
    /// The disk's size in GiB; the image's own when not set. It can grow, which restarts the machine, and never
    /// shrink.
    #[attr(optional, validate = positive)]
    pub disk_size_gb: Attr<u32>,
    /// Ports of the machine that are reachable on this computer's loopback address. A change restarts the machine.
    #[attr(optional)]
    pub ports: Attr<BTreeMap<String, PortModel>>,
}

/// A port of the machine that is reachable on this computer.
#[derive(Debug, Clone, Default, Model)]
pub struct PortModel {
    /// The port in the machine.
    #[attr(required, validate = port)]
    pub guest: Attr<u16>,
    /// The port on 127.0.0.1.
    #[attr(required, validate = port)]
    pub host: Attr<u16>,
    /// `"tcp"` or `"udp"`.
    #[attr(optional, default = "tcp", validate = protocol)]
    pub protocol: Attr<String>,
}

impl QemuVmModel {
    /// Checks what can be said before values are known.
    fn check(&self, path: &Path, diags: &mut Diagnostics) {
        let mut taken = BTreeSet::new();
        for (name, port) in self.ports.known().into_iter().flatten() {
            let at = path.attr("ports").key(name);
            if let Err(why) = names::object(name) {
                diags.error(at.clone(), "Invalid name", format!("The port's name {why}."));
            }
            let Some(host) = port.host.known() else { continue };
            let protocol = port.protocol.known_deref().unwrap_or("tcp");
            if !taken.insert((*host, protocol.to_owned())) {
                let text = format!("Another entry of `ports` has {protocol} port {host} already.");
                diags.error(at.attr("host"), "Port used twice", text);
            }
        }
    }

    /// What the backend needs to know. All values are known.
    fn spec(&self) -> QemuVmSpec {
        let ports = self.ports.known().into_iter().flatten().map(|(name, port)| (name.clone(), port.spec()));
        QemuVmSpec {
            arch: Arch::of_name(self.arch.known_deref()),
            cpus: self.cpus.unwrap_or(CPUS),
            memory_mb: self.memory_mb.unwrap_or(MEMORY_MB),
            disk_size_gb: self.disk_size_gb.known().copied(),
            ports: ports.collect(),
        }
    }
}

impl VmSection for QemuVmModel {
    fn cloud(&self) -> &'static str {
        CLOUD
    }

    fn offer(&self) -> &'static str {
        "`qemu = {}` runs the machine on this computer"
    }

    fn region(&self) -> Attr<&str> {
        Attr::Known(REGION)
    }

    fn first_user(&self) -> &'static str {
        "sindri"
    }

    fn validate(&self, around: &VmAround<'_>, path: &Path, diags: &mut Diagnostics) {
        self.check(path, diags);
        for name in &around.ssh_ways {
            let text = "A machine on this computer is reached on 127.0.0.1, at a port that is chosen for it.";
            diags.error(Path::from("ssh").attr(*name), "Not for this backend", text);
        }
    }

    fn launch_problems(&self) -> Problems {
        let missing = match &self.arch {
            Attr::Unknown => None,
            arch => Emulator::program(Arch::of_name(arch.known_deref())).err(),
        };
        missing.map(|error| (CLOUD.to_owned(), format!("{error}."))).into_iter().collect()
    }

    fn plan_change(&self, change: &VmChange<'_>, path: &Path, plan: &mut Draft, diags: &mut Diagnostics) {
        let before = change.before::<Self>().and_then(|before| before.disk_size_gb.known());
        if let (Some(old), Some(new)) = (before, self.disk_size_gb.known())
            && new < old
        {
            let at = path.attr("disk_size_gb");
            let text = format!(
                "A disk can only grow: it has {old} GiB, and {new} are asked for. The machine is made anew, without what is on the disk."
            );
            plan.require_replace(at.clone());
            diags.push(Diagnostic::warning("Disk cannot shrink", text).at(at));
        }
        let restarts: Vec<_> = RESTARTS
            .iter()
            .filter(|name| plan.prior(path.attr(**name)) != plan.get(path.attr(**name)))
            .copied()
            .collect();
        change.warn_of_restart(&restarts, path.clone(), diags);
    }

    fn launcher(&self, backends: &Backends, _region: Option<&str>) -> Box<dyn VmLauncher> {
        Box::new(backends.local.launcher(self.spec()))
    }

    fn imported(_vm: &Vm) -> Self {
        Self::default()
    }
}

impl PortModel {
    fn spec(&self) -> Port {
        let udp = self.protocol.known_deref() == Some("udp");
        Port {
            guest: self.guest.unwrap_or_default(),
            host: self.host.unwrap_or_default(),
            protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
        }
    }
}

fn protocol(value: &str) -> Result<(), String> {
    one_of(value, &["tcp", "udp"])
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "validators take references")]
fn memory(value: &u32) -> Result<(), String> {
    if *value >= 128 { Ok(()) } else { Err("must be at least 128".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::section::with_defaults;

    #[test]
    fn what_is_not_said_is_the_schemas_default() {
        let defaults: QemuVmModel = with_defaults();
        assert_eq!(defaults.spec(), QemuVmModel::default().spec());
    }
}
