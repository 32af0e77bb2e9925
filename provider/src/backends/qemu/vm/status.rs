//! A machine as it is now.

use super::Record;
use super::files::Folder;
use crate::backends::qemu::guest::ssh::quote;
use crate::backends::qemu::guest::{Forward, Guest, console};
use crate::domain::Vm;
use crate::domain::vm::host_key_alias;
use crate::domain::vm_spec::PowerState;

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
        name: record.name.clone(),
        image_id: record.image_id.clone(),
        status,
        public_ip: None,
        private_ip: None,
        ssh_host: "127.0.0.1".into(),
        ssh_port: record.ssh_port,
        ssh_username: record.username.clone(),
        ssh_command: ssh_command(folder, record),
        ssh_private_key_path: record.private_key.clone(),
        known_hosts_path: Some(folder.known_hosts()),
        console_log_path: Some(console::path(folder.dir())),
        tags: record.tags.clone(),
    }
}

/// A command for a shell. The host key that is seen first is recorded, and from then on the only one.
fn ssh_command(folder: &Folder, record: &Record) -> String {
    let mut words = vec!["ssh".to_owned()];
    if let Some(key) = &record.private_key {
        words.extend([
            "-i".to_owned(),
            key.display().to_string(),
            "-o".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
        ]);
    }
    words.extend(["-p".to_owned(), record.ssh_port.to_string()]);
    let known_hosts = folder.known_hosts().display().to_string().replace('%', "%%");
    for option in [
        format!("UserKnownHostsFile=\"{known_hosts}\""),
        format!("HostKeyAlias={}", host_key_alias(record.id)),
        "StrictHostKeyChecking=accept-new".to_owned(),
    ] {
        words.extend(["-o".to_owned(), option]);
    }
    words.push(format!("{}@127.0.0.1", record.username));
    words
        .iter()
        .map(|word| if plain(word) { word.clone() } else { quote(word) })
        .collect::<Vec<_>>()
        .join(" ")
}

fn plain(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./=@:+%,".contains(&byte))
}
