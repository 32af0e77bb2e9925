//! Asking EC2 again: what was made a moment ago is not known everywhere at once.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::AwsError;
use crate::domain::BackendError;

/// How long the first pause between two looks is.
pub(super) const LOOK: Duration = Duration::from_millis(500);
/// How long the longest one is.
const LONGEST_LOOK: Duration = Duration::from_secs(5);
/// For how many looks what was made a moment ago may be refused as unknown: about half a minute.
const EARLY_LOOKS: u32 = 10;

/// Why somebody who asked again has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum WaitError {
    /// AWS refused it.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// The user asked to stop, or the time is over.
    #[error("cancelled")]
    Cancelled,
}

impl WaitError {
    /// As the resource sees it; `doing` says what was going on.
    pub(super) fn into_backend(self, doing: &str) -> BackendError {
        match self {
            Self::Aws(error) => error.into_backend(doing),
            Self::Cancelled => BackendError::Cancelled { operation: doing.to_owned() },
        }
    }
}

/// Asks until what was made a moment ago is known everywhere in EC2: `is_early` tells the answers of a place that has not
/// heard of it.
pub(super) async fn once_known<T, F: Future<Output = Result<T, AwsError>>>(
    cancel: &CancellationToken,
    is_early: impl Fn(&AwsError) -> bool,
    ask: impl Fn() -> F,
) -> Result<T, WaitError> {
    let (mut pause, mut looks) = (LOOK, 0);
    loop {
        match ask().await {
            Err(error) if looks < EARLY_LOOKS && is_early(&error) => looks += 1,
            other => return Ok(other?),
        }
        pause = wait(pause, cancel).await?;
    }
}

/// Pauses, and tells how long the next pause is.
pub(super) async fn wait(pause: Duration, cancel: &CancellationToken) -> Result<Duration, WaitError> {
    tokio::select! {
        () = tokio::time::sleep(pause) => Ok(LONGEST_LOOK.min(pause.mul_f32(1.5))),
        () = cancel.cancelled() => Err(WaitError::Cancelled),
    }
}
