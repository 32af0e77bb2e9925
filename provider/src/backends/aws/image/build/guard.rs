//! A supervisor for what a build does in the cloud without Packer: when we are killed meanwhile, it sweeps, as Packer's
//! does. What it supervises does nothing but wait.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Work;
use crate::backends::aws::sweep;
use crate::journal::Record;
use crate::process::{Command, Ending, Following, HandOver, Limits, private};

/// Waits until a file is gone. It ends by itself then, so that no `sweep` is started. One that is would do nothing: what we go
/// on with is protected by the journal's lock, which we hold.
const WAIT: &str = "while [ -e \"$1\" ]; do sleep 1; done";
/// How long that may take to be noticed.
const ENDING: Duration = Duration::from_secs(30);

/// Does the work. Without a supervisor the journal alone has the build: that is no reason to give it up.
pub(super) async fn guarded<T>(work: &Work<'_>, record: &Record, doing: impl Future<Output = T>) -> T {
    watched(work, record.path(), record.lock_fd(), doing).await
}

/// Removes what a build that failed made, and ends its entry. A host that is interrupted twice ends at once, and soon we do.
pub(super) async fn settled(work: &Work<'_>, record: Record, settling: impl AsyncFnOnce(Record)) {
    let file = record.path().to_owned();
    match record.lock_fd().try_clone_to_owned() {
        Ok(lock) => watched(work, &file, lock.as_fd(), Box::pin(settling(record))).await,
        Err(error) => {
            tracing::warn!(build = %work.id, %error, "nobody watches over the end of a build");
            settling(record).await;
        }
    }
}

async fn watched<T>(work: &Work<'_>, file: &Path, lock: BorrowedFd<'_>, doing: impl Future<Output = T>) -> T {
    let (mark, output) = (work.dir.join("guard"), work.dir.join("guard.log"));
    if let Err(error) = private::write(&mark, b"") {
        tracing::warn!(build = %work.id, %error, "nobody watches over what a build does without Packer");
        return doing.await;
    }
    let env = sweep::environment();
    let then = HandOver { file, lock, env: &env };
    let following = Following { output: &output, keep: false, ending: Ending::default(), then: Some(then) };
    let command = Command::new("sh").args(["-c", WAIT, "sh"]).arg(&mark);
    let never = Limits::cancelled_by(&CancellationToken::new());
    let guard = work.runner.follow(&command, &following, &never, |_| {});
    tokio::pin!(guard, doing);
    let done = tokio::select! {
        done = &mut doing => done,
        ended = &mut guard => {
            tracing::warn!(build = %work.id, ?ended, "nobody watches over what a build does without Packer");
            return doing.await;
        }
    };
    // It may have gone with the build's folder.
    let is_told = private::remove_file(&mark).is_ok();
    if !is_told || tokio::time::timeout(ENDING, guard).await.is_err() {
        tracing::warn!(build = %work.id, "the supervisor of what a build does without Packer does not end");
    }
    done
}
