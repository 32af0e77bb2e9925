//! Who may end the process besides the host's Shutdown: SIGTERM, the host's death, and Ctrl-C when debugging.

use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, getppid};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often the parent is looked for where it cannot be watched.
const PARENT_CHECK: Duration = Duration::from_secs(2);

/// Who started this process to be served by it.
static HOST: OnceLock<Option<Pid>> = OnceLock::new();

/// Remembers the process that started this one as the host.
pub(super) fn remember_host() {
    HOST.get_or_init(getppid);
}

/// Whether the host that started this process was killed: what it is told now reaches no state. False in a process that
/// serves nobody, and while debugging, where hosts come and go.
pub fn host_is_gone() -> bool {
    HOST.get().is_some_and(|host| getppid() != *host)
}

/// Returns when the process should end.
///
/// Ctrl-C reaches the whole process group. The host then calls Stop; ending here would lose what runs.
pub(super) async fn end_asked_for(debug: bool) {
    let mut interrupts = signal(SignalKind::interrupt()).ok();
    let interrupted = async {
        loop {
            next(&mut interrupts).await;
            if debug {
                return;
            }
        }
    };
    tokio::select! {
        () = interrupted => {}
        () = async { next(&mut signal(SignalKind::terminate()).ok()).await } => {}
        () = parent_gone(), if !debug => {}
    }
}

/// Waits for the next one; for ever if the system would not have us listen.
async fn next(signals: &mut Option<Signal>) {
    match signals {
        Some(signals) => drop(signals.recv().await),
        None => std::future::pending().await,
    }
}

/// A host that was killed cannot ask for the end; what it started gets a new parent.
async fn parent_gone() {
    let parent = getppid();
    #[cfg(target_os = "linux")]
    if let Some(ended) = parent.and_then(watch) {
        // It may have gone before it was watched, and its number may be another's.
        if getppid() == parent {
            let _ = ended.await;
            return;
        }
    }
    while getppid() == parent {
        tokio::time::sleep(PARENT_CHECK).await;
    }
}

/// Tells the end of a process at once, so that nothing is finished for a host that will not hear of it. None on
/// kernels before 5.3 (pidfd_open(2)).
#[cfg(target_os = "linux")]
fn watch(process: Pid) -> Option<tokio::sync::oneshot::Receiver<()>> {
    use rustix::event::{PollFd, PollFlags, poll};
    let handle = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty()).ok()?;
    let (ended, told) = tokio::sync::oneshot::channel();
    let wait = move || {
        while poll(&mut [PollFd::new(&handle, PollFlags::IN)], None).is_err() {}
        // Nobody listens any more: the process is ending anyway.
        let _ = ended.send(());
    };
    // A thread of its own, which ends with the process: the runtime's would be waited for.
    std::thread::Builder::new().name("host-watch".into()).spawn(wait).ok()?;
    Some(told)
}
