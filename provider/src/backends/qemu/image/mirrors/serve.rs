//! The proxy's side that steps see: HTTP/1, read by hyper.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::task::JoinSet;

use super::Mirrors;
use super::connect::{Failure, Io, Line, tunnel};
use super::site::Site;
use super::way::Way;
use crate::domain::causes;

/// How many connections are served at a time; more wait.
const MOST: usize = 64;
/// How much of a request's beginning is kept, and of what comes after it.
const HEAD: usize = 32 * 1024;
/// How long a step may keep a connection without asking for anything.
const IDLE: Duration = Duration::from_secs(60);
/// The pause where no connection can be taken.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// What holds for one connection alone (RFC 9110, 7.6.1), beside what `Connection` names.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("te"),
    HeaderName::from_static("trailer"),
    HeaderName::from_static("transfer-encoding"),
    HeaderName::from_static("upgrade"),
];

type Answer = Response<Either<Incoming, Full<Bytes>>>;

/// Serves each connection; all of them end with this future.
pub(super) async fn all<S>(mirrors: Arc<Mirrors>, streams: impl Stream<Item = S>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut streams, mut visits) = (pin!(streams), JoinSet::new());
    loop {
        tokio::select! {
            stream = streams.next(), if visits.len() < MOST => match stream {
                Some(stream) => drop(visits.spawn(one(Arc::clone(&mirrors), stream))),
                None => return,
            },
            Some(_) = visits.join_next() => {}
        }
    }
}

/// Serves one connection to its end.
pub(super) async fn one<S>(mirrors: Arc<Mirrors>, stream: S)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let visit = Arc::new(Visit { mirrors, line: tokio::sync::Mutex::default(), tunnel: Mutex::default() });
    let answer = |request| {
        let visit = Arc::clone(&visit);
        async move { Ok::<_, Infallible>(visit.answer(request).await) }
    };
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(HEAD);
    let connection = server.serve_connection(TokioIo::new(stream), service_fn(answer)).with_upgrades();
    // What a step does with its connection is the step's business.
    if connection.await.is_err() {
        return;
    }
    let tunnel = visit.tunnel.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some((near, mut far)) = tunnel
        && let Ok(near) = near.await
    {
        // As long as both want: it ends with the step at the latest.
        let _ = copy_bidirectional(&mut TokioIo::new(near), &mut far).await;
    }
}

/// A connection that a step has made.
struct Visit {
    mirrors: Arc<Mirrors>,
    /// The mirror that was asked last, to be asked again.
    line: tokio::sync::Mutex<Option<Line>>,
    /// What the connection becomes after the answer.
    tunnel: Mutex<Option<(OnUpgrade, Box<dyn Io>)>>,
}

impl Visit {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let (site, way) = match self.mirrors.find(request.method(), request.uri()) {
            Ok(found) => found,
            Err(asked) => return told(StatusCode::FORBIDDEN, self.mirrors.refuse(&asked)),
        };
        let answer = if request.method() == Method::CONNECT {
            self.open(site, way, request).await
        } else {
            self.fetch(site, way, &request).await
        };
        answer.unwrap_or_else(|error| {
            let text = format!("The package mirror {site} cannot be reached: {}\n", causes(&*error));
            told(StatusCode::BAD_GATEWAY, text)
        })
    }

    async fn open(&self, site: &Site, way: &Way, request: Request<Incoming>) -> Result<Answer, Failure> {
        let far = tunnel(site, way).await?;
        let near = hyper::upgrade::on(request);
        *self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some((near, far));
        Ok(Response::new(Either::Right(Full::default())))
    }

    /// What the mirror answers, whatever that is: where it leads is the step's to ask for.
    async fn fetch(&self, site: &Site, way: &Way, request: &Request<Incoming>) -> Result<Answer, Failure> {
        let mut headers = passed_on(request.headers());
        for ours in [HOST, CONTENT_LENGTH, EXPECT] {
            headers.remove(ours);
        }
        let (method, uri) = (request.method(), request.uri());
        let mut kept = self.line.lock().await;
        let known = kept.take().filter(|line| line.is_to(site));
        let (mut line, again) = match known {
            Some(line) => (line, true),
            None => (Line::open(site, way).await?, false),
        };
        let answer = match line.ask(way, method, uri, &headers).await {
            // A server may end a connection at any time between two questions.
            Err(_) if again => {
                line = Line::open(site, way).await?;
                line.ask(way, method, uri, &headers).await?
            }
            answer => answer?,
        };
        *kept = Some(line);
        let (mut head, body) = answer.into_parts();
        head.version = Version::HTTP_11;
        head.headers = passed_on(&head.headers);
        Ok(Response::from_parts(head, Either::Left(body)))
    }
}

fn told(status: StatusCode, text: String) -> Answer {
    let mut answer = Response::new(Either::Right(Full::from(text)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

/// The headers that go on to the other side.
fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let named = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<&str> = named.flat_map(|value| value.split(',')).map(str::trim).collect();
    let stays = |name: &HeaderName| {
        HOP_BY_HOP.contains(name) || named.iter().any(|other| name.as_str().eq_ignore_ascii_case(other))
    };
    headers
        .iter()
        .filter(|(name, _)| !stays(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
