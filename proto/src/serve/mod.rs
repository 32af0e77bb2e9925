//! Serves a provider to the host that started this process: handshake, socket, TLS, signals, shutdown.
//! Knows nothing of what the provider offers.

mod control;
mod handshake;
mod incoming;
mod logging;
mod services;
mod signals;
mod socket;
mod tls;

#[cfg(test)]
mod tests;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::provider::Provider;
use crate::rpc::Server;
use handshake::{Environment, HandshakeError};
pub use signals::host_is_gone;
use socket::{Socket, SocketError};
use tls::TlsError;

/// How long replies that are on their way have: the host kills the process two seconds after asking it to end.
const DRAIN: Duration = Duration::from_millis(300);
/// As much as the main thread has: who overflows it ends the process, and with it all that other resources do.
const STACK: usize = 8 << 20;
/// How long operations have to end after SIGTERM or the host's death.
const GRACE: Duration = Duration::from_secs(10);

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// The provider's address in whichever registry: `namespace/name`.
    pub address: String,
    /// The provider's version, for whoever runs the binary by hand.
    pub version: String,
    /// Whether to wait for a host to attach instead of being started by one.
    pub debug: bool,
}

/// Why a provider could not be served.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot start the asynchronous runtime")]
    Runtime(#[source] std::io::Error),
    #[error("cannot write the handshake to standard output")]
    Announce(#[source] std::io::Error),
    #[error("cannot serve gRPC")]
    Transport(#[source] tonic::transport::Error),
}

/// Serves until the host says to end. Call it from `main` and return what it returns.
///
/// If no host started this process, it says so on standard error and fails.
pub fn serve<P: Provider>(provider: P, options: &ServeOptions) -> ExitCode {
    let provider = Arc::new(provider);
    let served = Environment::read(options.debug, |name| std::env::var(name).ok())
        .map_err(ServeError::from)
        .and_then(|environment| start(&provider, options, &environment));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error, options);
            ExitCode::FAILURE
        }
    }
}

fn complain(error: &ServeError, options: &ServeOptions) {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    let ServeOptions { address, version, .. } = options;
    // If not even standard error takes it, there is no one to tell.
    let _ = writeln!(std::io::stderr(), "{address} {version}: {text}");
}

fn start<P: Provider>(
    provider: &Arc<P>,
    options: &ServeOptions,
    environment: &Environment,
) -> Result<(), ServeError> {
    if !options.debug {
        signals::remember_host();
    }
    logging::install(provider.type_name(), |name| std::env::var(name).ok());
    let socket = Socket::bind(&environment.socket)?;
    let tls = environment.client_certificate.as_deref().map(tls::Identity::new).transpose()?;
    let line = if options.debug {
        handshake::reattach_text(&options.address, std::process::id(), socket.path())
    } else {
        let certificate = tls.as_ref().map(tls::Identity::certificate);
        handshake::line(socket.path(), certificate, environment.multiplex_asked)
    };
    // The socket listens: the host gets ready and connects while we do the rest.
    announce(&line).map_err(ServeError::Announce)?;
    let tls = tls.map(tls::Identity::into_acceptor);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).thread_stack_size(STACK).enable_all().build();
    let runtime = runtime.map_err(ServeError::Runtime)?;
    let served = runtime.block_on(run(provider, socket, tls, options.debug));
    // What still runs had its grace; waiting for blocking calls would let the host kill us.
    runtime.shutdown_background();
    served
}

async fn run<P: Provider>(
    provider: &Arc<P>,
    socket: Socket,
    tls: Option<TlsAcceptor>,
    debug: bool,
) -> Result<(), ServeError> {
    let incoming = incoming::Incoming::new(socket, tls)?;
    let server = Arc::new(Server::new(Arc::clone(provider)));
    answer(&server, incoming, debug).await
}

/// Answers calls until the host, a signal, or the host's death ends it.
async fn answer<P: Provider>(
    server: &Arc<Server<P>>,
    incoming: incoming::Incoming,
    debug: bool,
) -> Result<(), ServeError> {
    let ended = CancellationToken::new();
    let serving = tonic::transport::Server::builder().serve_with_incoming_shutdown(
        services::Services::new(server, &ended),
        incoming,
        ended.clone().cancelled_owned(),
    );
    let ending = async {
        tokio::select! {
            () = ended.cancelled() => server.stop(),
            () = signals::end_asked_for(debug) => {
                tracing::info!("asked to end: cancelling what runs");
                server.stop();
                server.wait_idle(GRACE).await;
                ended.cancel();
            }
        }
        // Replies on their way, then open connections that nobody will close.
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = serving => served.map_err(ServeError::Transport),
        () = ending => Ok(()),
    }
}

fn announce(line: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}
