//! A supervisor for what a build does in the cloud without Packer: when we are killed meanwhile, it sweeps, as Packer's
//! does. What it supervises does nothing but wait.

use std::fs;
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
    let (mark, output) = (work.dir.join("guard"), work.dir.join("guard.log"));
    if let Err(error) = private::write(&mark, b"") {
        tracing::warn!(build = %work.id, %error, "nobody watches over the check of the finished image");
        return doing.await;
    }
    let env = sweep::environment();
    let then = HandOver { file: record.path(), lock: record.lock_fd(), env: &env };
    let following = Following { output: &output, keep: false, ending: Ending::default(), then: Some(then) };
    let command = Command::new("sh").args(["-c", WAIT, "sh"]).arg(&mark);
    let never = Limits::cancelled_by(&CancellationToken::new());
    let guard = work.runner.follow(&command, &following, &never, |_| {});
    tokio::pin!(guard, doing);
    let done = tokio::select! {
        done = &mut doing => done,
        ended = &mut guard => {
            tracing::warn!(build = %work.id, ?ended, "nobody watches over the check of the finished image");
            return doing.await;
        }
    };
    let ended = fs::remove_file(&mark).is_ok() && tokio::time::timeout(ENDING, guard).await.is_ok();
    if !ended {
        tracing::warn!(build = %work.id, "the supervisor of a check does not end");
    }
    done
}
