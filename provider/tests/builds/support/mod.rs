//! What these tests share.

pub(crate) mod debian;
pub(crate) mod image;
pub(crate) mod moto;
pub(crate) mod small_disk;

use std::time::Duration;

/// Longer than a build or the start of a machine takes here, however busy the computer is.
const LONGEST: Duration = Duration::from_secs(20 * 60);

/// What the work comes to. When it hangs, the test fails and shows what is told of it.
pub(crate) async fn in_time<T>(work: impl Future<Output = T>, told: impl FnOnce() -> String) -> T {
    let done = tokio::time::timeout(LONGEST, Box::pin(work)).await;
    done.unwrap_or_else(|_| panic!("not done after {LONGEST:?}:\n{}", told()))
}

/// Does something when the time for it has come while the work goes on: `None` when the work ended before.
pub(crate) async fn meanwhile<T, U>(
    work: impl Future<Output = T>,
    then: impl Future<Output = U>,
) -> (T, Option<U>) {
    let mut work = Box::pin(work);
    tokio::select! {
        done = &mut work => (done, None),
        then = then => (work.await, Some(then)),
    }
}
