//! Waits until somebody can log in, and until cloud-init is done.

use std::time::Duration;

use super::{Exec, Input, Login, Session, SshError, wait_for_banner};
use crate::domain::Environment;
use crate::process::{Finished, Limits};

/// The first pause after a login that failed; it doubles, since servers punish those who keep trying.
const RETRY: Duration = Duration::from_millis(250);
/// The longest such pause.
const LONGEST_RETRY: Duration = Duration::from_secs(4);
/// How long the first attempt may take, from the server's first words to the login. A guest that restarts in
/// between says nothing more, and nobody says so for it: QEMU's network keeps the connection open.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the later attempts may, which get twice the time of the one before, for a guest that is only slow. The
/// server itself ends what takes longer (LoginGraceTime in sshd_config(5)).
const LONGEST_PATIENCE: Duration = Duration::from_secs(120);

/// Ends when cloud-init is done.
const AWAIT: &str = include_str!("../../../templates/scripts/await-first-boot.sh");

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
    log_in_patiently(host, port, login, last, PATIENCE).await
}

async fn log_in_patiently(
    host: &str,
    port: u16,
    login: &Login,
    last: &mut Option<SshError>,
    mut patience: Duration,
) -> Result<Session, SshError> {
    let mut pause = RETRY;
    loop {
        let stream = wait_for_banner(host, port).await;
        match tokio::time::timeout(patience, Session::open(stream, login)).await {
            Ok(Ok(session)) => return Ok(session),
            // The key may be on its way still (cloud-init), or the server restarts.
            Ok(Err(error @ (SshError::Denied { .. } | SshError::Connect { .. }))) => *last = Some(error),
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                *last = Some(SshError::Silent { limit: patience });
                patience = LONGEST_PATIENCE.min(patience * 2);
            }
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
    // A user's own shell may be any.
    let exec = Exec { command: "sh -s", environment: &none, input: Input::Bytes(AWAIT.as_bytes()) };
    session.exec(&exec, None, limits).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use russh::keys::PrivateKey;
    use russh::keys::ssh_key::private::Ed25519Keypair;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::ssh::KnownHost;

    /// A server that lets everybody in.
    struct Open;

    impl russh::server::Handler for Open {
        type Error = russh::Error;
    }

    /// As on a full disk.
    #[tokio::test]
    async fn a_host_key_that_cannot_be_recorded_is_told_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let key = || Arc::new(PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32])));
        let keys = vec![PrivateKey::clone(&key())];
        let config = Arc::new(russh::server::Config { keys, ..Default::default() });
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            // It is hung up on.
            let _ = russh::server::run_stream(config, stream, Open).await.unwrap().await;
        });
        let dir = tempfile::tempdir().unwrap();
        let known_host = KnownHost { path: dir.path().join("none/known_hosts"), alias: "test".into() };
        let login = Login { username: "root".into(), key: key(), known_host };
        let mut last = None;
        let asked = log_in("127.0.0.1", port, &login, &mut last);
        let told = tokio::time::timeout(Duration::from_secs(10), asked).await.expect("it is tried for ever");
        let Err(error) = told else { panic!("it let us in") };
        assert!(matches!(&error, SshError::File { path, .. } if *path == login.known_host.path), "{error:?}");
    }

    /// What a guest looks like that restarts after its server's first words.
    #[tokio::test]
    async fn a_server_that_falls_silent_is_asked_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let key = Arc::new(PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32])));
        let known_host = KnownHost { path: dir.path().join("known_hosts"), alias: "test".into() };
        let login = Login { username: "root".into(), key, known_host };
        let mut last = None;
        let server = async {
            let mut connections = Vec::new();
            while connections.len() < 4 {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(b"SSH-2.0-silent\r\n").await.unwrap();
                connections.push(stream);
            }
            connections
        };
        let connections = tokio::select! {
            _ = log_in_patiently("127.0.0.1", port, &login, &mut last, Duration::from_millis(50)) => {
                unreachable!("nobody lets it in")
            }
            connections = server => connections,
        };
        assert!(
            matches!(last, Some(SshError::Silent { limit }) if limit >= Duration::from_millis(50)),
            "{last:?}"
        );
        // None of them stays open.
        for mut stream in connections {
            let mut heard = Vec::new();
            let closed = stream.read_to_end(&mut heard);
            let _end_or_reset = tokio::time::timeout(Duration::from_secs(10), closed).await.expect("closed");
        }
    }
}
