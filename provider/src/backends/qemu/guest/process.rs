//! The QEMU process of a guest, found by the guest's id in its arguments: a process id alone may long belong
//! to another program.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
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
    let until = Instant::now() + deadline;
    while let Some(pid) = from_pidfile(dir, id) {
        let ended = match open(pid, id) {
            Some(process) => has_ended(&process, until).await,
            None => {
                tokio::time::sleep(TICK).await;
                Instant::now() <= until
            }
        };
        if !ended {
            return Err(pid);
        }
    }
    Ok(())
}

/// Ends every process of the guest, wherever its folder is or was.
///
/// # Errors
/// [`GuestError::Undead`] when one does not end.
pub async fn kill(dir: &Path, id: Uuid) -> Result<(), GuestError> {
    let found: Vec<Pid> = from_pidfile(dir, id).into_iter().chain(search(id)).collect();
    let until = Instant::now() + DEATH;
    for pid in found {
        let ended = match open(pid, id) {
            Some(process) => {
                // One that has just ended cannot be killed.
                let _ = rustix::process::pidfd_send_signal(&process, Signal::KILL);
                has_ended(&process, until).await
            }
            None => !belongs(pid, id),
        };
        if !ended {
            return Err(GuestError::Undead { pid: pid.as_raw_nonzero().get() });
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

/// A process of the guest. The descriptor is taken before the look, so that what was looked at is what a signal goes to.
fn open(pid: Pid, id: Uuid) -> Option<OwnedFd> {
    let process = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
    belongs(pid, id).then_some(process)
}

/// Waits until a process has ended. A process that dies has no arguments any more while it still has its files and ports.
async fn has_ended(process: &OwnedFd, until: Instant) -> bool {
    loop {
        let mut ended = [PollFd::new(process, PollFlags::IN)];
        if poll(&mut ended, Some(&Timespec::default())).is_ok_and(|count| count > 0) {
            return true;
        }
        if Instant::now() > until {
            return false;
        }
        tokio::time::sleep(TICK).await;
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
