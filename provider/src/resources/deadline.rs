//! The time that a user gives an operation: when it is over, the operation is cancelled and says so.

use std::time::{Duration, Instant};

use tfplugin::{CancellationToken, Diagnostic, Path};

use crate::diagnose;
use crate::domain::{BackendError, unless_cancelled, with_grace};

/// What a last request gets when the user stops or the time is over.
const MOMENT: Duration = Duration::from_secs(5);

/// Why an operation did not succeed.
#[derive(Debug)]
pub struct Failure {
    /// What it ended with.
    pub error: BackendError,
    /// The limit, when that is what ended it.
    pub expired: Option<Duration>,
}

/// Runs an operation, cancelled when the user stops or when its time is over. It is always run to its end, so
/// that it can clean up.
///
/// # Errors
/// The operation's own.
pub async fn run<T, F>(
    stop: &CancellationToken,
    limit: Duration,
    operation: impl FnOnce(CancellationToken) -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, BackendError>>,
{
    let cancel = stop.child_token();
    let running = operation(cancel.clone());
    tokio::pin!(running);
    let result = tokio::select! {
        result = &mut running => result,
        () = tokio::time::sleep(limit) => {
            cancel.cancel();
            running.await
        }
    };
    let expired = (cancel.is_cancelled() && !stop.is_cancelled()).then_some(limit);
    result.map_err(|error| Failure { error, expired })
}

/// The time of one operation, of which each of its parts gets what is left.
#[derive(Debug)]
pub struct Time {
    stop: CancellationToken,
    limit: Duration,
    began: Instant,
    /// The attribute in `timeouts` that bounds it.
    pub timeout: &'static str,
}

impl Time {
    /// Begins now. `stop` fires when the user interrupts.
    pub fn of(stop: &CancellationToken, limit: Duration, timeout: &'static str) -> Self {
        Self { stop: stop.clone(), limit, began: Instant::now(), timeout }
    }

    /// What is left of it.
    pub fn left(&self) -> Duration {
        self.limit.saturating_sub(self.began.elapsed())
    }

    /// Does a part of the operation, as [`run`] does.
    ///
    /// # Errors
    /// The part's own.
    pub async fn run<T, F>(&self, part: impl FnOnce(CancellationToken) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, BackendError>>,
    {
        let done = run(&self.stop, self.left(), part).await;
        // What was left of the time is not what the user wrote.
        done.map_err(|failure| Failure { expired: failure.expired.map(|_| self.limit), ..failure })
    }

    /// Looks at something, which leaves nothing behind when it is given up: when the user stops, or the time is over.
    ///
    /// # Errors
    /// The look's own, and [`BackendError::Cancelled`].
    pub async fn look<T>(
        &self,
        operation: &str,
        looking: impl Future<Output = Result<T, BackendError>>,
    ) -> Result<T, Failure> {
        self.run(|cancel| async move { unless_cancelled(operation, looking, &cancel).await }).await
    }

    /// Ends what has had its effect: what must be asked for all the same when the user stops or the time is over, and gets a
    /// moment then.
    ///
    /// # Errors
    /// Its own, and [`BackendError::Cancelled`].
    pub async fn last<T>(
        &self,
        operation: &str,
        ending: impl Future<Output = Result<T, BackendError>>,
    ) -> Result<T, Failure> {
        let over = || BackendError::Cancelled { operation: operation.to_owned() };
        self.run(
            |cancel| async move { with_grace(MOMENT, ending, &cancel).await.unwrap_or_else(|| Err(over())) },
        )
        .await
    }
}

impl Failure {
    /// The failure as a diagnostic; `timeout` is the attribute in `timeouts` that bounds the operation.
    pub fn diagnostic(&self, summary: &str, timeout: &str) -> Diagnostic {
        let diagnostic = diagnose::backend(summary, &self.error);
        match self.expired {
            None => diagnostic,
            Some(limit) => {
                let text = format!(
                    "It took longer than {limit:?}, the limit of `timeouts.{timeout}`.\n{}",
                    diagnostic.detail
                );
                Diagnostic::error(summary, text).at(Path::from("timeouts").attr(timeout))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn until(cancel: CancellationToken) -> Result<(), BackendError> {
        cancel.cancelled().await;
        Err(BackendError::Cancelled { operation: "waiting".into() })
    }

    #[tokio::test]
    async fn what_takes_too_long_says_so_on_its_timeout() {
        let stop = CancellationToken::new();
        let failure = run(&stop, Duration::from_millis(10), until).await.unwrap_err();
        let diagnostic = failure.diagnostic("Machine not created", "create");
        assert_eq!(
            diagnostic.detail,
            "It took longer than 10ms, the limit of `timeouts.create`.\nWaiting was cancelled."
        );
        assert_eq!(diagnostic.path.unwrap().to_string(), "timeouts.create");
    }

    #[tokio::test]
    async fn a_look_that_does_not_end_is_given_up() {
        let (stop, never) = (CancellationToken::new(), std::future::pending::<Result<(), BackendError>>);
        let time = Time::of(&stop, Duration::from_millis(10), "read");
        let failure = time.look("reading image x", never()).await.unwrap_err();
        let diagnostic = failure.diagnostic("Image not readable", "read");
        assert_eq!(
            diagnostic.detail,
            "It took longer than 10ms, the limit of `timeouts.read`.\nReading image x was cancelled."
        );
        assert_eq!(diagnostic.path.unwrap().to_string(), "timeouts.read");
        stop.cancel();
        let time = Time::of(&stop, Duration::from_secs(60), "read");
        let failure = time.look("reading image x", never()).await.unwrap_err();
        assert_eq!(failure.expired, None);
        assert!(matches!(failure.error, BackendError::Cancelled { .. }));
    }

    #[tokio::test]
    async fn a_stop_is_no_timeout() {
        let stop = CancellationToken::new();
        stop.cancel();
        let failure = run(&stop, Duration::from_secs(60), until).await.unwrap_err();
        assert_eq!(failure.expired, None);
    }
}
