//! Why a backend could not do what was asked, and how asking ends when nobody waits for the answer any more.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Why a backend could not do what was asked. The first line for people is `Display`; the causes follow
/// through `source`.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The object is not there: Read drops it from state, Delete succeeds, Import fails.
    #[error("there is no {kind} {id}")]
    NotFound {
        /// "image" or "machine".
        kind: &'static str,
        /// The id that was asked for.
        id: String,
    },
    /// The object is gone, and what was made for it is not: Read keeps it until that is removed with it.
    #[error("{kind} {id} is gone, and what was made for it is not")]
    Ended {
        /// "machine".
        kind: &'static str,
        /// The id that was asked for.
        id: String,
        /// Why, where its cloud still tells.
        reason: Option<String>,
    },
    /// The object is kept where this process cannot see it.
    #[error("{id} is kept in store {there}, and this is store {here}")]
    Foreign {
        /// The object's id.
        id: String,
        /// The store that made it.
        there: String,
        /// The store in use.
        here: String,
    },
    /// The object is there, and what is known of it cannot be used.
    #[error("{id} is damaged")]
    Damaged {
        /// The object's id.
        id: String,
        /// How.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// What is asked for cannot be had, because of one attribute.
    #[error("{problem}")]
    Refused {
        /// The attribute, dots between its parts: `qemu.ports.web.host`.
        attribute: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The user asked to stop.
    #[error("{operation} was cancelled")]
    Cancelled {
        /// What was going on.
        operation: String,
    },
    /// A build failed.
    #[error("the image was not built")]
    Build {
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
        /// The attribute that it is about, if it is about one, as in [`Self::Refused`].
        attribute: Option<String>,
        /// The whole log.
        log: PathBuf,
        /// The log's last lines, redacted.
        tail: String,
    },
    /// Anything else.
    #[error("{operation} failed")]
    Failed {
        /// What was going on, with the object's name.
        operation: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl BackendError {
    /// Wraps a cause with the name of what was going on.
    pub fn failed(operation: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed { operation: operation.into(), source: source.into() }
    }

    /// The object that was asked for is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// Does what leaves nothing behind, or what is found again, when it is given up halfway.
///
/// # Errors
/// Its own, and [`BackendError::Cancelled`].
pub fn unless_cancelled<T>(
    operation: &str,
    doing: impl Future<Output = Result<T, BackendError>>,
    cancel: &CancellationToken,
) -> impl Future<Output = Result<T, BackendError>> {
    // Boxed here, or what is awaited would be in each future around it, several times.
    let doing = Box::pin(doing);
    async move {
        let done = cancel.run_until_cancelled(doing).await;
        done.unwrap_or_else(|| Err(BackendError::Cancelled { operation: operation.to_owned() }))
    }
}

/// Does something that hears of `cancel` by itself, or not at all, and gets so much time from then on. `None` when that is
/// over.
pub async fn with_grace<T>(
    grace: Duration,
    doing: impl Future<Output = T>,
    cancel: &CancellationToken,
) -> Option<T> {
    let over = async {
        cancel.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        done = doing => Some(done),
        () = over => None,
    }
}

/// An error with its causes, for another process to report.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_cancelled_gets_a_moment() {
        let takes = |millis| async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        };
        let (stopped, moment) = (CancellationToken::new(), Duration::from_millis(300));
        stopped.cancel();
        for (stop, millis, is_done) in [
            (stopped.clone(), 0, true),
            (stopped.clone(), 10, true),
            (stopped, 60_000, false),
            (CancellationToken::new(), 400, true),
        ] {
            let ended = with_grace(moment, takes(millis), &stop).await;
            assert_eq!(ended.is_some(), is_done, "{millis}");
        }
    }
}
