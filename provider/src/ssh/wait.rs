//! Waits until somebody can log in, and until cloud-init is done.

use std::time::Duration;

use super::{Exec, Input, Login, Session, SshError, wait_for_banner};
use crate::domain::Environment;
use crate::process::{Finished, Limits};

/// The first pause after a login that failed; it doubles, since servers punish those who keep trying.
const RETRY: Duration = Duration::from_millis(250);
/// The longest such pause.
const LONGEST_RETRY: Duration = Duration::from_secs(4);

/// Logs in, trying until it works; `last` has why it did not so far. Never gives up by itself.
///
/// # Errors
/// What no later attempt would mend: the server is another one than before.
pub async fn log_in(
    host: &str,
    port: u16,
    login: &Login,
    last: &mut Option<SshError>,
) -> Result<Session, SshError> {
    let mut pause = RETRY;
    loop {
        let stream = wait_for_banner(host, port).await;
        match Session::open(stream, login).await {
            Ok(session) => return Ok(session),
            // The key may be on its way still (cloud-init), or the server restarts.
            Err(error @ (SshError::Denied { .. } | SshError::Connect { .. })) => *last = Some(error),
            Err(error) => return Err(error),
        }
        tokio::time::sleep(pause).await;
        pause = LONGEST_RETRY.min(pause * 2);
    }
}

/// Waits until cloud-init is done. Exit code 2 means done with errors that it got over.
///
/// # Errors
/// When the connection breaks, or the time is over.
pub async fn wait_for_cloud_init(session: &Session, limits: &Limits) -> Result<Finished, SshError> {
    let none = Environment::default();
    let exec = Exec { command: "cloud-init status --wait --long", environment: &none, input: Input::Empty };
    session.exec(&exec, None, limits).await
}
