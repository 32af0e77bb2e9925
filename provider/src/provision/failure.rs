//! How a step fails, whoever runs it.

use std::time::Duration;

/// A step did not do its work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepFailure {
    /// It ended with an exit code other than 0.
    #[error("provisioning step {name} failed with exit code {code}; its last lines were:\n{tail}")]
    Code {
        /// Number and name.
        name: String,
        /// Its exit code.
        code: i32,
        /// The last lines of output.
        tail: String,
    },
    /// It took too long.
    #[error(
        "provisioning step {name} was stopped after {limit:?}, its `timeout`; its last lines were:\n{tail}"
    )]
    Timeout {
        /// Number and name.
        name: String,
        /// Its limit.
        limit: Duration,
        /// The last lines of output.
        tail: String,
    },
}
