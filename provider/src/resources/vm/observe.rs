//! From what a backend reports to state.

use std::path::Path;

use tfplugin::{Attr, Diagnostic};

use super::cloud_of;
use super::model::VmModel;
use crate::backends::VmSlot;
use crate::domain::tagging::Unknown;
use crate::domain::vm::host_key_alias;
use crate::domain::vm_spec::PowerState;
use crate::domain::{Tagging, Vm};
use crate::resources::object::Object;
use crate::ssh::LoginCommand;

/// Where SSH listens in a cloud when the user does not say.
pub(super) const SSH_PORT: u16 = 22;

/// The status of a machine that is gone.
const ENDED: &str = "terminated";

impl VmModel {
    /// The machine as state names it.
    pub(super) fn object(&self) -> Object<'_> {
        Object { title: "Machine", id: &self.id, cloud: cloud_of(self), store: &self.store_id }
    }

    /// Fills in what only the machine itself knows. What its backend does not know stays as it is in state.
    pub(super) fn observe(&mut self, vm: &Vm, cloud: &str, store_id: Option<String>) {
        let path = |path: &Option<std::path::PathBuf>| {
            Attr::from(path.as_ref().map(|path| path.display().to_string()))
        };
        self.id = vm.id.as_str().into();
        self.cloud = cloud.into();
        self.region = vm.region.as_str().into();
        let status = match vm.status {
            PowerState::Running => "running",
            PowerState::Stopped => "stopped",
        };
        self.status = status.into();
        self.power_state = status.into();
        self.public_ip = vm.public_ip.clone().into();
        self.private_ip = vm.private_ip.clone().into();
        let forward = self.ssh.known().and_then(|ssh| ssh.host.known().cloned());
        self.ssh_host = forward.or_else(|| vm.ssh_host.clone()).into();
        if let Some(login) = &vm.login {
            self.ssh_port = login.port.into();
            self.ssh_username = login.username.as_str().into();
            self.ssh_private_key_path = path(&login.private_key_path);
            self.ssh_known_hosts_path = path(&login.known_hosts_path);
        }
        if vm.console_log_path.is_some() {
            self.console_log_path = path(&vm.console_log_path);
        }
        self.ssh_command = self.login_command().into();
        let port = self.own_port();
        for section in self.slots_mut().into_iter().filter_map(VmSlot::section_mut) {
            section.observe(vm, port);
        }
        self.store_id = store_id.into();
        // What nobody knows, as after an import, is null.
        for text in [
            &mut self.ssh_username,
            &mut self.ssh_private_key_path,
            &mut self.ssh_known_hosts_path,
            &mut self.console_log_path,
        ] {
            if text.is_unknown() {
                *text = Attr::Null;
            }
        }
        if self.ssh_port.is_unknown() {
            self.ssh_port = Attr::Null;
        }
    }

    /// Fills in what a plan left open with how a machine is `now`. The rest was promised as it was, whatever came to pass: the
    /// next Read takes it in. Tells of an address that is another one meanwhile.
    pub(super) fn take_over(&mut self, now: Self) -> Option<Diagnostic> {
        let moved = [(&self.ssh_host, &now.ssh_host), (&self.public_ip, &now.public_ip)]
            .into_iter()
            .any(|(before, now)| !before.is_unknown() && before != now)
            || (!self.ssh_port.is_unknown() && self.ssh_port != now.ssh_port);
        let told = moved.then(|| now.moved());
        for (text, now) in [
            (&mut self.id, now.id),
            (&mut self.cloud, now.cloud),
            (&mut self.region, now.region),
            (&mut self.status, now.status),
            (&mut self.public_ip, now.public_ip),
            (&mut self.private_ip, now.private_ip),
            (&mut self.ssh_host, now.ssh_host),
            (&mut self.ssh_username, now.ssh_username),
            (&mut self.ssh_command, now.ssh_command),
            (&mut self.ssh_private_key_path, now.ssh_private_key_path),
            (&mut self.ssh_known_hosts_path, now.ssh_known_hosts_path),
            (&mut self.console_log_path, now.console_log_path),
            (&mut self.store_id, now.store_id),
        ] {
            if text.is_unknown() {
                *text = now;
            }
        }
        if self.ssh_port.is_unknown() {
            self.ssh_port = now.ssh_port;
        }
        told
    }

    fn moved(&self) -> Diagnostic {
        let way = match self.ssh_command.known_deref() {
            Some(command) => format!("`{command}` logs in"),
            None => "it has no address".to_owned(),
        };
        let text = format!(
            "Since the plan was made the machine got another address: {way}. What was planned stands in the state until it is refreshed, by the next plan."
        );
        Diagnostic::warning("Machine is reached elsewhere now", text)
    }

    /// Where SSH listens on the machine itself: the port of a forward is not the machine's.
    fn own_port(&self) -> u16 {
        let ssh = self.ssh.known();
        let is_forward = ssh.is_some_and(|ssh| ssh.host.is_known());
        ssh.and_then(|ssh| ssh.port.known().copied()).filter(|_| !is_forward).unwrap_or(SSH_PORT)
    }

    /// A machine of a cloud, as far as it tells itself what was asked for.
    pub(super) fn imported(vm: &Vm, cloud: &str) -> Self {
        let mut model = Self {
            name: vm.name.as_str().into(),
            image_id: vm.image_id.as_str().into(),
            ssh_port: SSH_PORT.into(),
            ..Self::default()
        };
        if let Some(slot) = model.slots_mut().into_iter().find(|slot| slot.cloud() == cloud) {
            slot.import(vm);
        }
        let username = model.default_user().into();
        Self { ssh_username: username, ..model }
    }

    /// Somebody ended the machine, and what was made for it is left.
    pub(super) fn end(&mut self) {
        self.status = ENDED.into();
        for text in [&mut self.public_ip, &mut self.private_ip, &mut self.ssh_host, &mut self.ssh_command] {
            *text = Attr::Null;
        }
    }

    /// Whether that is so.
    pub(super) fn has_ended(&self) -> bool {
        self.status.known_deref() == Some(ENDED)
    }

    /// Takes over the tags that the state manages; what others put on the machine is theirs.
    pub(super) fn observe_tags(&mut self, vm: &Vm, tagging: &Tagging) {
        if tagging.unknown == Unknown::Ignored {
            return;
        }
        if let Attr::Known(own) = &self.tags {
            self.tags = Attr::Known(tagging.seen(own, &vm.tags));
        }
        let all = tagging.managed(self.tags_all.clone().unwrap_or_default());
        self.tags_all = Attr::Known(tagging.seen(&all, &vm.tags));
    }

    /// The command that logs in; none while there is nowhere to.
    fn login_command(&self) -> Option<String> {
        let known_hosts = self.ssh_known_hosts_path.known_deref().map(Path::new);
        let alias = host_key_alias(self.id.known_deref().unwrap_or_default());
        let command = LoginCommand {
            host: self.ssh_host.known_deref()?,
            port: self.ssh_port.known().copied()?,
            username: self.ssh_username.known_deref()?,
            private_key: self.ssh_private_key_path.known_deref().map(Path::new),
            known_host: known_hosts.map(|file| (file, alias.as_str())),
        };
        Some(command.line())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_plan_promised_stays() {
        let at = |host: &str, port: u16| VmModel {
            id: "i-1".into(),
            ssh_host: host.into(),
            public_ip: host.into(),
            ssh_port: port.into(),
            ssh_command: format!("ssh -p {port} {host}").into(),
            ..VmModel::default()
        };
        let planned = VmModel { status: Attr::Unknown, ..at("192.0.2.1", 22) };
        let open = VmModel {
            public_ip: Attr::Unknown,
            ssh_host: Attr::Unknown,
            ssh_port: Attr::Unknown,
            ssh_command: Attr::Unknown,
            ..planned.clone()
        };
        for (planned, now, told) in [
            (&planned, at("192.0.2.1", 22), false),
            (&planned, at("192.0.2.9", 22), true),
            (&planned, at("192.0.2.1", 2222), true),
            (&open, at("192.0.2.9", 2222), false),
        ] {
            let now = VmModel { status: "running".into(), ..now };
            let mut state = planned.clone();
            let warning = state.take_over(now.clone());
            assert_eq!(warning.is_some(), told, "{now:?}");
            assert!(warning.is_none_or(|it| it.detail.contains(now.ssh_command.known_deref().unwrap())));
            let expected = if planned.ssh_host.is_unknown() { &now } else { planned };
            assert_eq!((&state.ssh_host, &state.ssh_port), (&expected.ssh_host, &expected.ssh_port));
            assert_eq!((&state.public_ip, &state.ssh_command), (&expected.public_ip, &expected.ssh_command));
            assert_eq!(state.status, now.status);
        }
    }
}
