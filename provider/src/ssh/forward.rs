//! Connections that are made to a port of the server's and come to us.

use std::sync::{Arc, Mutex, PoisonError};

use russh::client::Msg;
use russh::{ChannelOpenFailure, ChannelStream};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, OwnedPermit};

/// How many wait to be taken: as many as a listener of the system's keeps.
const BACKLOG: usize = 128;

/// The connections, in the order in which they were made.
#[derive(Debug)]
pub struct Incoming(mpsc::Receiver<ChannelStream<Msg>>);

impl Incoming {
    /// The next one; none when the login has ended.
    pub async fn next(&mut self) -> Option<ChannelStream<Msg>> {
        self.0.recv().await
    }
}

/// Where a login puts them, once somebody expects any.
pub(super) type Place = Arc<Mutex<Option<mpsc::Sender<ChannelStream<Msg>>>>>;

pub(super) fn expect(place: &Place) -> Incoming {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
    Incoming(receiver)
}

/// Room for one more. Never waits: it is called by what reads the whole login.
pub(super) fn admit(place: &Place) -> Result<OwnedPermit<ChannelStream<Msg>>, ChannelOpenFailure> {
    let sender = place.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let sender = sender.ok_or(ChannelOpenFailure::AdministrativelyProhibited)?;
    sender.try_reserve_owned().map_err(|error| match error {
        TrySendError::Full(_) => ChannelOpenFailure::ResourceShortage,
        TrySendError::Closed(_) => ChannelOpenFailure::AdministrativelyProhibited,
    })
}

#[cfg(test)]
mod tests {
    use russh::keys::PrivateKey;
    use russh::keys::ssh_key::private::Ed25519Keypair;
    use russh::server::{self, Auth, VerifiedPublicKey};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use crate::ssh::{KnownHost, Login, Session, SshError};

    /// A server that lets everybody in, and leads connections to them or not.
    struct Server {
        forwards: bool,
    }

    impl server::Handler for Server {
        type Error = russh::Error;

        async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
            Ok(Auth::Accept)
        }

        async fn tcpip_forward(
            &mut self,
            address: &str,
            port: &mut u32,
            session: &mut server::Session,
        ) -> Result<bool, Self::Error> {
            assert_eq!((address, *port), ("127.0.0.1", 0));
            *port = 4711;
            let handle = session.handle();
            tokio::spawn(async move {
                for word in ["one", "two"] {
                    let channel =
                        handle.channel_open_forwarded_tcpip("127.0.0.1", 4711, "127.0.0.1", 1).await;
                    let mut stream = channel.unwrap().into_stream();
                    stream.write_all(word.as_bytes()).await.unwrap();
                    stream.shutdown().await.unwrap();
                }
            });
            Ok(self.forwards)
        }
    }

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
    }

    async fn session(forwards: bool, folder: &std::path::Path) -> Session {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let config = server::Config { keys: vec![key(1)], ..server::Config::default() };
            let (stream, _) = listener.accept().await.unwrap();
            let running = server::run_stream(config.into(), stream, Server { forwards }).await;
            let _ended = running.unwrap().await;
        });
        let known_host = KnownHost { path: folder.join(format!("known-{forwards}")), alias: "test".into() };
        let login = Login { username: "root".into(), key: key(2).into(), known_host };
        Session::open(TcpStream::connect(address).await.unwrap(), &login).await.unwrap()
    }

    #[tokio::test]
    async fn connections_come_from_a_server_that_is_asked_for_them() {
        let dir = tempfile::tempdir().unwrap();
        let session_that_may = session(true, dir.path()).await;
        let (port, mut incoming) = session_that_may.listen().await.unwrap();
        assert_eq!(port, 4711);
        for word in ["one", "two"] {
            let mut said = String::new();
            incoming.next().await.unwrap().read_to_string(&mut said).await.unwrap();
            assert_eq!(said, word);
        }
        let refused = session(false, dir.path()).await.listen().await.unwrap_err();
        assert!(matches!(refused, SshError::NoForwarding), "{refused}");
    }
}
