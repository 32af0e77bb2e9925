//! Patience with what takes a moment.

use std::time::{Duration, Instant};

use anyhow::Result;

/// Waits until a check holds: what was started may take a moment to be gone.
///
/// # Errors
/// The check's own, when it does not hold within the limit.
pub fn within(limit: Duration, check: impl Fn() -> Result<()>) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        match check() {
            Err(error) if Instant::now() >= deadline => return Err(error.context(format!("after {limit:?}"))),
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
            Ok(()) => return Ok(()),
        }
    }
}
