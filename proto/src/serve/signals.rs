//! Who may end the process besides the host's Shutdown: SIGTERM, the host's death, and Ctrl-C when debugging.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often the parent is looked for: often enough to leave nothing behind, and free of cost.
const PARENT_CHECK: Duration = Duration::from_secs(2);

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
    let parent = rustix::process::getppid();
    while rustix::process::getppid() == parent {
        tokio::time::sleep(PARENT_CHECK).await;
    }
}
