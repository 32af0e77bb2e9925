//! Connections to a mirror, made only when a step asks for one that is allowed.

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderMap, HeaderValue, PROXY_AUTHORIZATION};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::site::Site;
use super::way::{Proxy, Way};

/// How long a mirror may take to take a connection.
const CONNECT: Duration = Duration::from_secs(30);
/// How long it may take to begin its answer.
const ANSWER: Duration = Duration::from_secs(60);

pub(super) type Failure = Box<dyn Error + Send + Sync>;

/// What bytes go through.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection on which a mirror can be asked, more than once.
pub(super) struct Line {
    site: Site,
    sender: SendRequest<Empty<Bytes>>,
    driver: AbortOnDropHandle<()>,
}

impl Line {
    /// A new one, to the mirror or to the proxy on the way.
    ///
    /// # Errors
    /// When nobody answers.
    pub(super) async fn open(site: &Site, way: &Way) -> Result<Self, Failure> {
        let stream = way.connect(site).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async move {
            // Whoever asked hears of an error.
            let _ = connection.with_upgrades().await;
        });
        Ok(Self { site: site.clone(), sender, driver: AbortOnDropHandle::new(driver) })
    }

    /// Whether this mirror can be asked again.
    pub(super) fn is_to(&self, site: &Site) -> bool {
        self.site == *site && !self.sender.is_closed()
    }

    /// Asks for what `uri` names at the mirror.
    ///
    /// # Errors
    /// When the connection breaks or there is no answer in time.
    pub(super) async fn ask(
        &mut self,
        way: &Way,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Response<Incoming>, Failure> {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let target = match way {
            Way::Direct => path,
            Way::Through(_) => format!("{}{path}", self.site),
        };
        let mut request = Request::builder().method(method).uri(target).body(Empty::new())?;
        *request.headers_mut() = headers.clone();
        request.headers_mut().insert(HOST, HeaderValue::try_from(self.site.authority())?);
        way.log_in(&mut request)?;
        self.send(request).await
    }

    async fn send(&mut self, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, Failure> {
        let answer = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        match tokio::time::timeout(ANSWER, answer).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(format!("no answer within {ANSWER:?}").into()),
        }
    }
}

/// Bytes to and from a mirror whose TLS we do not look into.
///
/// # Errors
/// When nobody answers, or the proxy on the way does not want to.
pub(super) async fn tunnel(site: &Site, way: &Way) -> Result<Box<dyn Io>, Failure> {
    if *way == Way::Direct {
        return Ok(Box::new(way.connect(site).await?));
    }
    let mut line = Line::open(site, way).await?;
    let target = site.with_port();
    let mut request = Request::connect(target.as_str()).header(HOST, &target).body(Empty::new())?;
    way.log_in(&mut request)?;
    let answer = line.send(request).await?;
    if !answer.status().is_success() {
        return Err(format!("the proxy on the way answers {}", answer.status()).into());
    }
    let io = TokioIo::new(hyper::upgrade::on(answer).await?);
    drop(line.driver);
    Ok(Box::new(io))
}

impl Way {
    async fn connect(&self, site: &Site) -> io::Result<TcpStream> {
        let to = match self {
            Self::Direct => (site.host(), site.port),
            Self::Through(Proxy { host, port, .. }) => (host.as_str(), *port),
        };
        let stream = tokio::time::timeout(CONNECT, TcpStream::connect(to)).await;
        let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn log_in(&self, request: &mut Request<Empty<Bytes>>) -> Result<(), Failure> {
        if let Self::Through(Proxy { login: Some(login), .. }) = self {
            let mut login = HeaderValue::try_from(login.expose())?;
            login.set_sensitive(true);
            request.headers_mut().insert(PROXY_AUTHORIZATION, login);
        }
        Ok(())
    }
}
