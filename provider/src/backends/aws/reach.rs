//! Whether anybody answers where EC2 should be.
//!
//! A network that is away for a moment must not cost a build: requests are tried for more than a minute. Where nobody has
//! answered yet, a name may be wrong, or there is no network at all, and nothing is lost but time: that is told soon.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_sdk_ec2::config::interceptors::{
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextMut, InterceptorContext,
};
use aws_sdk_ec2::config::retry::{ClassifyRetry, RetryAction};
use aws_sdk_ec2::config::{ConfigBag, Intercept, RuntimeComponents};

use crate::domain::causes;

/// For how long an endpoint that has never answered is tried again. The last pause, or the time for connecting, comes on top.
const PATIENCE: Duration = Duration::from_secs(5);
/// For how long nobody else tries then: a hundred objects would each wait.
const QUIET: Duration = Duration::from_secs(30);

/// What is known of one client's endpoint.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    region: String,
    patience: Duration,
    /// Whether to try on all the same.
    tries_on: Arc<AtomicBool>,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    endpoint: String,
    /// When it was asked first.
    asked: Option<Instant>,
    has_answered: bool,
    given_up: Option<(Instant, Unanswered)>,
}

/// Where nobody answered, and why.
#[derive(Clone, Debug)]
pub(super) struct Unanswered {
    endpoint: String,
    region: String,
    pub(super) reason: String,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (region {})", self.endpoint, self.region)
    }
}

impl std::error::Error for Unanswered {}

impl Reach {
    /// Nothing is known of a region's endpoint yet.
    pub(super) fn new(region: &str, tries_on: &Arc<AtomicBool>) -> Self {
        let (region, tries_on) = (region.to_owned(), Arc::clone(tries_on));
        Self { region, patience: PATIENCE, tries_on, known: Arc::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is not worth while to wait for an answer any longer.
    fn is_hopeless(&self, known: &Known) -> bool {
        let asked_long_ago = known.asked.is_some_and(|asked| asked.elapsed() >= self.patience);
        !known.has_answered && asked_long_ago && !self.tries_on.load(Ordering::Relaxed)
    }
}

impl ClassifyRetry for Reach {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let mut known = self.known();
        if context.response().is_some() {
            known.has_answered = true;
        } else if context.is_failed() && self.is_hopeless(&known) {
            return RetryAction::RetryForbidden;
        }
        RetryAction::NoActionIndicated
    }

    fn name(&self) -> &'static str {
        "an endpoint that has never answered"
    }
}

impl Intercept for Reach {
    fn name(&self) -> &'static str {
        "whether an endpoint answers"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut known = self.known();
        if known.asked.is_none() {
            known.asked = Some(Instant::now());
            known.endpoint = origin(context.request().uri()).to_owned();
        }
        match &known.given_up {
            Some((since, why)) if since.elapsed() < QUIET && self.is_hopeless(&known) => {
                Err(why.clone().into())
            }
            _ => Ok(()),
        }
    }

    /// Says where nobody answered.
    fn modify_before_completion(
        &self,
        context: &mut FinalizerInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let Some(Err(error)) = context.output_or_error() else { return Ok(()) };
        let is_sent = error.is_connector_error() || error.is_timeout_error();
        if !is_sent || context.response().is_some() {
            return Ok(());
        }
        let mut known = self.known();
        let (endpoint, region) = (known.endpoint.clone(), self.region.clone());
        let why = Unanswered { endpoint, region, reason: causes(error) };
        known.given_up = Some((Instant::now(), why.clone()));
        Err(why.into())
    }
}

/// A URL without what follows its server.
fn origin(url: &str) -> &str {
    let server = url.find("://").map_or(0, |at| at + 3);
    let end = url[server..].find(['/', '?', '#']).map_or(url.len(), |at| server + at);
    &url[..end]
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};

    use aws_sdk_ec2::config::retry::RetryConfig;
    use aws_sdk_ec2::config::{BehaviorVersion, Credentials, Region};
    use aws_sdk_ec2::{Client, Config};

    use super::*;
    use crate::backends::aws::AwsError;

    const PATIENT: bool = true;

    /// A client of an endpoint on this computer, tried for half a second when it has never answered, and else 25 times.
    fn client(endpoint: &str, tries_on: bool) -> Client {
        let patience = Duration::from_millis(500);
        let reach = Reach { patience, ..Reach::new("eu-west-1", &Arc::new(AtomicBool::new(tries_on))) };
        let retries = RetryConfig::standard()
            .with_max_attempts(25)
            .with_initial_backoff(Duration::from_millis(50))
            .with_max_backoff(Duration::from_millis(200));
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .endpoint_url(endpoint)
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .retry_config(retries)
            .interceptor(reach.clone())
            .retry_classifier(reach)
            .build();
        Client::from_conf(config)
    }

    async fn ask(client: &Client) -> Result<(), AwsError> {
        let asked = client.describe_regions().send().await;
        asked.map(drop).map_err(|error| AwsError::of("DescribeRegions", error))
    }

    /// An address where nobody listens.
    fn closed() -> SocketAddr {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
    }

    /// Answers so many requests, and is closed then.
    fn answers(at: SocketAddr, requests: usize) -> std::thread::JoinHandle<()> {
        let listener = TcpListener::bind(at).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().take(requests) {
                let mut stream = stream.unwrap();
                let taken = stream.read(&mut [0; 8192]).unwrap_or_default();
                assert!(taken > 0, "nothing was asked");
                let body = "<DescribeRegionsResponse><regionInfo/></DescribeRegionsResponse>";
                let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/xml\r\ncontent-length";
                write!(stream, "{head}: {}\r\n\r\n{body}", body.len()).unwrap();
            }
        })
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn where_nobody_has_ever_answered_is_told_soon() {
        // No resolver takes a name with such a part, and none is asked.
        let unknown = format!("http://{}.invalid", "x".repeat(64));
        for (endpoint, why) in
            [(format!("http://{}", closed()), "Connection refused"), (unknown, "failed to lookup address")]
        {
            let (client, began) = (client(&endpoint, !PATIENT), Instant::now());
            let error = ask(&client).await.unwrap_err();
            assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
            let told = causes(&error);
            assert!(matches!(error, AwsError::Unreachable { .. }), "{told}");
            let place = format!("no answer to DescribeRegions from {endpoint} (region eu-west-1)");
            assert!(told.starts_with(&place) && told.contains(why), "{told}");
            // And the next one does not wait.
            let again = Instant::now();
            assert_eq!(causes(&ask(&client).await.unwrap_err()), told);
            assert!(again.elapsed() < Duration::from_millis(500), "{:?}", again.elapsed());
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_has_answered_is_waited_for() {
        let at = closed();
        let (client, first) = (client(&format!("http://{at}"), !PATIENT), answers(at, 1));
        ask(&client).await.unwrap();
        first.join().unwrap();
        let back = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(1200));
            answers(at, 1)
        });
        ask(&client).await.unwrap();
        back.join().unwrap().join().unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_has_something_to_remove_tries_on() {
        let at = closed();
        let client = client(&format!("http://{at}"), PATIENT);
        let back = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(1200));
            answers(at, 1)
        });
        ask(&client).await.unwrap();
        back.join().unwrap().join().unwrap();
    }

    #[test]
    fn a_url_is_shown_up_to_its_server() {
        for (url, expected) in [
            ("https://ec2.eu-west-1.amazonaws.com/", "https://ec2.eu-west-1.amazonaws.com"),
            ("http://127.0.0.1:5000?a=b", "http://127.0.0.1:5000"),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ] {
            assert_eq!(origin(url), expected);
        }
    }
}
