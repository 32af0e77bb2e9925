//! The QEMU process of a guest, found by the guest's id in its arguments: a process id alone may long belong
//! to another program.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal};
use uuid::Uuid;

use super::{GuestError, argv};

/// How long a killed process may take to be gone: the kernel has to give back its memory.
const DEATH: Duration = Duration::from_secs(10);
/// How often we look.
const TICK: Duration = Duration::from_millis(10);

/// Whether the guest in this folder has a process. Looks at its pidfile only.
pub(super) fn is_running(dir: &Path, id: Uuid) -> bool {
    from_pidfile(dir, id).is_some()
}

/// Waits until the guest has no process any more.
///
/// # Errors
/// The process that is still there at the deadline.
pub(super) async fn wait_gone(dir: &Path, id: Uuid, deadline: Duration) -> Result<(), Pid> {
    let start = Instant::now();
    while let Some(pid) = from_pidfile(dir, id) {
        if start.elapsed() > deadline {
            return Err(pid);
        }
        tokio::time::sleep(TICK).await;
    }
    Ok(())
}

/// Ends every process of the guest, wherever its folder is or was.
///
/// # Errors
/// [`GuestError::Undead`] when one does not end.
pub async fn kill(dir: &Path, id: Uuid) -> Result<(), GuestError> {
    let found: Vec<Pid> = from_pidfile(dir, id).into_iter().chain(search(id)).collect();
    let start = Instant::now();
    for pid in found {
        signal(pid, id);
        while belongs(pid, id) {
            if start.elapsed() > DEATH {
                return Err(GuestError::Undead { pid: pid.as_raw_nonzero().get() });
            }
            tokio::time::sleep(TICK).await;
        }
    }
    Ok(())
}

fn from_pidfile(dir: &Path, id: Uuid) -> Option<Pid> {
    let text = fs::read_to_string(dir.join(argv::PIDFILE)).ok()?;
    Pid::from_raw(text.trim().parse().ok()?).filter(|pid| belongs(*pid, id))
}

fn search(id: Uuid) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter(|pid| belongs(*pid, id))
        .collect()
}

/// The descriptor is taken before the look, so that what was looked at is what the signal goes to.
fn signal(pid: Pid, id: Uuid) {
    if let Ok(process) = rustix::process::pidfd_open(pid, PidfdFlags::empty())
        && belongs(pid, id)
    {
        let _ = rustix::process::pidfd_send_signal(process, Signal::KILL);
    }
}

/// Whether the process is a QEMU that was given this id. A zombie has no arguments.
fn belongs(pid: Pid, id: Uuid) -> bool {
    let arguments = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    is_ours(&arguments, id)
}

fn is_ours(cmdline: &[u8], id: Uuid) -> bool {
    let arguments: Vec<&[u8]> = cmdline.split(|byte| *byte == 0).collect();
    let program = arguments.first().and_then(|path| path.rsplit(|byte| *byte == b'/').next());
    program.is_some_and(|name| name.starts_with(b"qemu-system-"))
        && arguments.windows(2).any(|pair| pair == [&b"-uuid"[..], id.to_string().as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_qemu_with_the_id_is_ours() {
        let id = Uuid::from_u128(7);
        for (cmdline, ours) in [
            (format!("/usr/bin/qemu-system-x86_64\0-name\0a\0-uuid\0{id}\0"), true),
            (format!("qemu-system-aarch64\0-uuid\0{id}\0-m\x001"), true),
            (format!("vi\0-uuid\0{id}\0"), false),
            (format!("/usr/bin/qemu-system-x86_64\0-uuid\0{}\0", Uuid::from_u128(8)), false),
            (
                format!(
                    "terraform-provider-sindri\0supervise\0--\0/usr/bin/qemu-system-x86_64\0-uuid\0{id}\0"
                ),
                false,
            ),
            (String::new(), false),
        ] {
            assert_eq!(is_ours(cmdline.as_bytes(), id), ours, "{cmdline:?}");
        }
    }

    #[tokio::test]
    async fn a_stale_pidfile_hurts_nobody() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(argv::PIDFILE), std::process::id().to_string()).unwrap();
        assert!(!is_running(dir.path(), Uuid::from_u128(7)));
        kill(dir.path(), Uuid::from_u128(7)).await.unwrap();
    }
}
