//! A machine as it is now.

use super::Record;
use super::files::Folder;
use crate::backends::qemu::REGION;
use crate::backends::qemu::guest::{Forward, Guest, console};
use crate::domain::vm_spec::PowerState;
use crate::domain::{Vm, VmLogin};

/// Looks at a machine; asks QEMU, and never waits for the guest.
pub(super) async fn look(folder: &Folder, record: &Record) -> Vm {
    let running = running(folder, record).await.is_some();
    view(folder, record, if running { PowerState::Running } else { PowerState::Stopped })
}

/// The machine's guest, if it runs.
pub(super) async fn running(folder: &Folder, record: &Record) -> Option<Guest> {
    Guest::find(record.id, folder.dir(), &forwards(record)).await
}

/// All ports that lead into the machine, SSH's first.
pub(super) fn forwards(record: &Record) -> Vec<Forward> {
    let ssh = Forward { host: Some(record.ssh_port), ..Forward::SSH };
    std::iter::once(ssh).chain(record.ports.values().map(|port| port.forward())).collect()
}

pub(super) fn view(folder: &Folder, record: &Record, status: PowerState) -> Vm {
    Vm {
        id: record.id.to_string(),
        region: REGION.into(),
        name: record.name.clone(),
        image_id: record.image_id.clone(),
        status,
        public_ip: None,
        private_ip: None,
        ssh_host: Some("127.0.0.1".into()),
        login: Some(VmLogin {
            port: record.ssh_port,
            username: record.username.clone(),
            private_key_path: record.private_key.clone(),
            known_hosts_path: Some(folder.known_hosts()),
        }),
        console_log_path: Some(console::path(folder.dir())),
        size: None,
        tags: record.tags.clone(),
        surroundings: None,
    }
}
