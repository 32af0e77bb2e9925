//! A login on a guest: runs commands and copies files.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client::{self, ChannelOpenHandle, Handle};
use russh::keys::{Algorithm, EcdsaCurve, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, ChannelMsg, ChannelWriteHalf, Preferred, Sig};
use tokio::io::AsyncRead;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Incoming, KnownHost, SshError, forward, script};
use crate::domain::Environment;
use crate::process::{BuildLog, Finished, Limits, Output, Stream};

/// Who logs in, how, and where to.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user in the guest.
    pub username: String,
    /// The key that the guest knows.
    pub key: Arc<PrivateKey>,
    /// The guest's own key.
    pub known_host: KnownHost,
}

/// A command for the guest.
#[derive(Debug, Clone, Copy)]
pub struct Exec<'a> {
    /// For `/bin/sh -c`. It stands in the guest's process list: secrets belong in the environment.
    pub command: &'a str,
    /// What it sees beside the login's own environment.
    pub environment: &'a Environment,
    /// What it can read.
    pub input: Input<'a>,
}

/// A command's standard input.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// Nothing.
    Empty,
    /// These bytes.
    Bytes(&'a [u8]),
    /// A file of the host.
    File(&'a Path),
}

/// An open connection. Dropping it closes it.
pub struct Session {
    handle: Handle<Client>,
    forwarded: forward::Place,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session")
    }
}

/// How long a guest may be silent before it is asked for a sign of life.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// After how many questions without an answer it counts as dead: emulated, on a busy host, answers take their time.
const UNANSWERED: usize = 4;

/// How long a login may be silent altogether, answers to such questions included, while something is sent: russh asks nothing
/// then.
const SILENT: Duration = Duration::from_secs(300);
/// How long a command that has ended may go on printing: what it left running in the background keeps its output open.
const REST: Duration = Duration::from_secs(10);

/// Receives a file. `wc` notices a connection that broke in between.
const COPY: &str = r#"set -eu; umask 077
mkdir -p -- "$(dirname -- "$SINDRI_TO")"
fresh=$(mktemp -- "$SINDRI_TO.XXXXXX")
trap 'rm -f -- "$fresh"' EXIT
cat >"$fresh"
test "$(wc -c <"$fresh")" -eq "$SINDRI_SIZE" || { echo 'the content did not arrive whole'; exit 1; }
chmod "$SINDRI_MODE" "$fresh"
mv -fT -- "$fresh" "$SINDRI_TO""#;

impl Session {
    /// Logs in over a connection on which the server has spoken. Dropped early, it closes the connection.
    ///
    /// # Errors
    /// When the server is another one than before, or does not let us in.
    pub async fn open(stream: TcpStream, login: &Login) -> Result<Self, SshError> {
        let stranger = Arc::new(AtomicBool::new(false));
        let forwarded = forward::Place::default();
        let unrecorded = Arc::new(Mutex::new(None));
        let client = Client {
            known: login.known_host.clone(),
            stranger: Arc::clone(&stranger),
            forwarded: Arc::clone(&forwarded),
            unrecorded: Arc::clone(&unrecorded),
        };
        let address = stream.peer_addr().map(|address| address.to_string()).unwrap_or_default();
        let mut hang_up = HangUp::on_drop(&stream);
        let failed = |source| {
            if stranger.load(Ordering::Acquire) {
                SshError::HostKeyChanged { path: login.known_host.path.clone() }
            } else {
                SshError::Connect { address: address.clone(), source: Box::new(source) }
            }
        };
        let connected = client::connect_stream(config(), stream, client).await;
        // No later attempt would do better.
        if let Some(source) = unrecorded.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(SshError::File { path: login.known_host.path.clone(), source });
        }
        let mut handle = connected.map_err(failed)?;
        let key = PrivateKeyWithHashAlg::new(Arc::clone(&login.key), None);
        let answer = handle.authenticate_publickey(&login.username, key).await;
        match answer.map_err(|source| SshError::Connect { address, source: Box::new(source) })?.success() {
            true => {
                hang_up.0 = None;
                Ok(Self { handle, forwarded })
            }
            false => Err(SshError::Denied { username: login.username.clone() }),
        }
    }

    /// Runs a command to its end, its output line by line into `log`. When it is given up, the guest may go
    /// on with it.
    ///
    /// # Errors
    /// When the connection breaks, or the time is over. An exit code other than 0 is *not* an error here.
    pub async fn exec(
        &self,
        exec: &Exec<'_>,
        log: Option<&BuildLog>,
        limits: &Limits,
    ) -> Result<Finished, SshError> {
        let line = script::line(exec.command, exec.environment)?;
        let timeout = limits.timeout.unwrap_or(Duration::MAX);
        tokio::select! {
            finished = self.run(&line, exec.input, log) => finished,
            () = limits.cancel.cancelled() => Err(SshError::Cancelled),
            () = tokio::time::sleep(timeout) => Err(SshError::Timeout { limit: timeout }),
        }
    }

    /// Writes a file in the guest, replacing what is there; folders on the way are made. `mode` is octal.
    ///
    /// # Errors
    /// When it cannot be read here or written there.
    pub async fn copy(
        &self,
        content: Input<'_>,
        destination: &str,
        mode: u32,
        limits: &Limits,
    ) -> Result<(), SshError> {
        let size = match content {
            Input::Empty => 0,
            Input::Bytes(bytes) => bytes.len() as u64,
            Input::File(path) => tokio::fs::metadata(path).await.map_err(file_error(path))?.len(),
        };
        let mut environment = Environment::default();
        let values = [
            ("SINDRI_TO", destination.to_owned()),
            ("SINDRI_SIZE", size.to_string()),
            ("SINDRI_MODE", format!("{mode:o}")),
        ];
        environment.plain.extend(values.map(|(name, value)| (name.to_owned(), value)));
        let exec = Exec { command: COPY, environment: &environment, input: content };
        let finished = self.exec(&exec, None, limits).await?;
        let reason = finished.output.trim().to_owned();
        if finished.code == 0 {
            Ok(())
        } else {
            Err(SshError::Copy { destination: destination.to_owned(), reason })
        }
    }

    /// Has the server listen on a port of its loopback address that it chooses, and returns the port and the connections that
    /// are made there, as long as this one is open.
    ///
    /// # Errors
    /// When the server does not let us (`AllowTcpForwarding no`), or the connection breaks.
    pub async fn listen(&self) -> Result<(u16, Incoming), SshError> {
        // Before the first can come.
        let incoming = forward::expect(&self.forwarded);
        let asked = self.handle.tcpip_forward("127.0.0.1", 0).await;
        let port = asked.map_err(|error| match error {
            russh::Error::RequestDenied => SshError::NoForwarding,
            error => error.into(),
        })?;
        let port = u16::try_from(port).map_err(|_| SshError::NoForwarding)?;
        Ok((port, incoming))
    }

    async fn run(&self, line: &str, input: Input<'_>, log: Option<&BuildLog>) -> Result<Finished, SshError> {
        let channel = self.handle.channel_open_session().await?;
        channel.exec(true, script::REMOTE).await?;
        let (mut reader, writer) = channel.split();
        let feed = feed(&writer, line, input);
        tokio::pin!(feed);
        let mut fed = false;
        let mut output = Output::new(log);
        let mut code = None;
        let rest = tokio::time::sleep(Duration::MAX);
        tokio::pin!(rest);
        loop {
            tokio::select! {
                // A command that does not read to the end closes its input: what it makes of it counts.
                result = &mut feed, if !fed => match result {
                    Err(error @ SshError::File { .. }) => return Err(error),
                    _ => fed = true,
                },
                message = reader.wait() => match message {
                    Some(ChannelMsg::Data { data }) => output.take(Stream::Out, &data),
                    Some(ChannelMsg::ExtendedData { data, .. }) => output.take(Stream::Err, &data),
                    Some(ended @ (ChannelMsg::ExitStatus { .. } | ChannelMsg::ExitSignal { .. })) => {
                        code = exit_code(&ended);
                        rest.as_mut().reset(Instant::now() + REST);
                    }
                    Some(ChannelMsg::Failure) => return Err(russh::Error::RequestDenied.into()),
                    Some(_) => {}
                    None => break,
                },
                () = &mut rest => break,
            }
        }
        let code = code.ok_or(SshError::Lost(russh::Error::Disconnect))?;
        Ok(Finished { code, output: output.finish() })
    }
}

/// The line, the input, the end.
async fn feed(writer: &ChannelWriteHalf<client::Msg>, line: &str, input: Input<'_>) -> Result<(), SshError> {
    writer.data_bytes(line.as_bytes().to_vec()).await?;
    match input {
        Input::Empty => {}
        Input::Bytes(bytes) => writer.data(bytes).await?,
        Input::File(path) => {
            let file = tokio::fs::File::open(path).await.map_err(file_error(path))?;
            send(writer, tokio::io::BufReader::with_capacity(256 * 1024, file)).await?;
        }
    }
    Ok(writer.eof().await?)
}

async fn send(
    writer: &ChannelWriteHalf<client::Msg>,
    content: impl AsyncRead + Unpin,
) -> Result<(), SshError> {
    Ok(writer.data(content).await?)
}

/// As a shell counts; none where the message is about something else.
fn exit_code(ended: &ChannelMsg) -> Option<i32> {
    match ended {
        ChannelMsg::ExitStatus { exit_status } => i32::try_from(*exit_status).ok(),
        ChannelMsg::ExitSignal { signal_name, .. } => Some(128 + number(signal_name)),
        _ => None,
    }
}

/// A signal's number on Linux. Only its name arrives (RFC 4254, 6.10); one without a standard name counts as TERM.
fn number(signal: &Sig) -> i32 {
    match signal {
        Sig::HUP => 1,
        Sig::INT => 2,
        Sig::QUIT => 3,
        Sig::ILL => 4,
        Sig::ABRT => 6,
        Sig::FPE => 8,
        Sig::KILL => 9,
        Sig::USR1 => 10,
        Sig::SEGV => 11,
        Sig::PIPE => 13,
        Sig::ALRM => 14,
        Sig::TERM | Sig::Custom(_) => 15,
    }
}

fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> SshError {
    let path = path.to_owned();
    move |source| SshError::File { path, source }
}

fn config() -> Arc<client::Config> {
    // Ed25519 first: one key is pinned, and that is the one which every ssh prefers too.
    let key = vec![
        Algorithm::Ed25519,
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    ];
    Arc::new(client::Config {
        preferred: Preferred { key: key.into(), ..Preferred::DEFAULT },
        inactivity_timeout: Some(SILENT),
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: UNANSWERED,
        nodelay: true,
        ..client::Config::default()
    })
}

/// Ends the connection of a login that is given up: russh goes on by itself until the keys are exchanged.
struct HangUp(Option<std::net::TcpStream>);

impl HangUp {
    fn on_drop(stream: &TcpStream) -> Self {
        Self(stream.as_fd().try_clone_to_owned().ok().map(Into::into))
    }
}

impl Drop for HangUp {
    fn drop(&mut self) {
        if let Some(stream) = &self.0 {
            // An error says that it has ended already.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

struct Client {
    known: KnownHost,
    stranger: Arc<AtomicBool>,
    forwarded: forward::Place,
    /// Why the host key can be neither compared nor recorded.
    unrecorded: Arc<Mutex<Option<io::Error>>>,
}

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else { return Ok(false) };
        let accepted = self.known.accept(key);
        self.stranger.store(matches!(accepted, Ok(false)), Ordering::Release);
        Ok(accepted.unwrap_or_else(|error| {
            *self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            false
        }))
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<client::Msg>,
        _connected_address: &str,
        _connected_port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        match forward::admit(&self.forwarded) {
            Ok(seat) => {
                reply.accept().await;
                seat.send(channel.into_stream());
            }
            Err(reason) => reply.reject(reason).await,
        }
        Ok(())
    }
}
