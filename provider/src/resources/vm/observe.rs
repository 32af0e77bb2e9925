//! From what a backend reports to state.

use std::path::Path;

use tfplugin::Attr;

use super::model::VmModel;
use crate::domain::tagging::Unknown;
use crate::domain::vm::host_key_alias;
use crate::domain::vm_spec::PowerState;
use crate::domain::{Tagging, Vm};
use crate::ssh::LoginCommand;

/// Where SSH listens when the user does not say.
const SSH_PORT: u16 = 22;

/// The status of a machine that is gone.
const ENDED: &str = "terminated";

impl VmModel {
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
        if let (Attr::Known(aws), Some(size)) = (&mut self.aws, &vm.size) {
            aws.instance_type = size.as_str().into();
        }
        let port = self.own_port();
        if let (Attr::Known(aws), Some(seen)) = (&mut self.aws, &vm.surroundings) {
            aws.observe(seen, port);
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

    /// Where SSH listens on the machine itself: the port of a forward is not the machine's.
    fn own_port(&self) -> u16 {
        let ssh = self.ssh.known();
        let is_forward = ssh.is_some_and(|ssh| ssh.host.is_known());
        ssh.and_then(|ssh| ssh.port.known().copied()).filter(|_| !is_forward).unwrap_or(SSH_PORT)
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
