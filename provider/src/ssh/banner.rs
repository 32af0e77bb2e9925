//! Waits until an SSH server speaks, behind a forwarded port or at a machine's own address.
//!
//! QEMU accepts connections before the guest has a network, and holds each until its first packet to the
//! guest, sent at ever longer intervals, is answered. A connection that is old when the guest comes up is
//! answered late, so fresh ones are made all along and the first that speaks wins. Not many: an emulated guest spends
//! a second on each, and a server that has ten of them unanswered drops others (MaxStartups in sshd_config(5)).

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What every SSH server begins with (RFC 4253, 4.2).
const BANNER: &[u8; 4] = b"SSH-";
/// The pause after a guest without a server has refused.
const PAUSE: Duration = Duration::from_millis(100);
/// The most connections at once.
const MOST: usize = 2;

/// Returns the connection on which a server has spoken; its words are still to be read. Never gives up by
/// itself.
pub async fn wait_for_banner(host: &str, port: u16) -> TcpStream {
    let start = Instant::now();
    let mut answered = false;
    let mut attempts = JoinSet::new();
    loop {
        // A guest that refuses is up: from then on, silence is a slow server and not a missing network.
        let patience =
            if answered { Duration::from_secs(8) } else { Duration::from_secs(2) + start.elapsed() / 8 };
        if attempts.len() < MOST {
            attempts.spawn(tokio::time::timeout(patience, attempt(host.to_owned(), port)));
        }
        tokio::select! {
            Some(Ok(ended)) = attempts.join_next() => match ended {
                Ok(Ok(Some(stream))) => return stream,
                Ok(Ok(None)) => {
                    answered = true;
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(Err(_)) => tokio::time::sleep(PAUSE).await,
                Err(_) => {}
            },
            () = tokio::time::sleep(patience / 2) => {}
        }
    }
}

/// `None` when the other side closes without a word.
async fn attempt(host: String, port: u16) -> io::Result<Option<TcpStream>> {
    let stream = TcpStream::connect((host, port)).await?;
    loop {
        let mut words = [0; BANNER.len()];
        match stream.peek(&mut words).await {
            Ok(0) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error),
            Ok(_) if words == *BANNER => return Ok(Some(stream)),
            // A part of it, or another protocol: more may come until our patience ends.
            Ok(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_open_port_is_not_enough() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let mut silent = Vec::new();
            for number in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                match number {
                    0 | 1 => silent.push(stream),
                    2 => drop(stream),
                    3 => stream.write_all(b"HTTP/1.1 400\r\n").await.unwrap(),
                    _ => {
                        stream.write_all(b"SS").await.unwrap();
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        stream.write_all(b"H-2.0-test\r\n").await.unwrap();
                        silent.push(stream);
                    }
                }
            }
        });
        let mut stream =
            tokio::time::timeout(Duration::from_secs(20), wait_for_banner("127.0.0.1", port)).await.unwrap();
        let mut words = [0; 12];
        stream.read_exact(&mut words).await.unwrap();
        assert_eq!(&words, b"SSH-2.0-test");
        server.abort();
    }

    #[tokio::test]
    async fn waits_for_ever_when_nobody_listens() {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let wait = tokio::time::timeout(Duration::from_millis(300), wait_for_banner("127.0.0.1", port));
        assert!(wait.await.is_err());
    }
}
