//! The proxy against real connections: a mirror, and somebody who is none, both on this computer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::net::TcpStream;

use super::*;
use crate::process::{Redactor, Secret};

/// A server that answers each request with its target, and counts who comes.
struct Server {
    address: SocketAddr,
    visits: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (visits, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let server = Self {
            address: listener.local_addr().unwrap(),
            visits: Arc::clone(&visits),
            requests: Arc::clone(&requests),
        };
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                visits.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(answer(stream, Arc::clone(&requests)));
            }
        });
        server
    }

    fn visits(&self) -> usize {
        self.visits.load(Ordering::SeqCst)
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn answer(stream: TcpStream, requests: Arc<Mutex<Vec<String>>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let is_tunnel = head.starts_with("CONNECT ");
        let is_last = target.ends_with("/last");
        requests.lock().unwrap().push(head);
        let (status, more) = match target.as_str() {
            _ if is_tunnel => ("200 OK", ""),
            path if path.ends_with("/moved") => ("302 Found", "Location: http://127.0.0.1:9/x\r\n"),
            _ => ("200 OK", "Connection: x-hop\r\nX-Hop: 1\r\nX-End: 1\r\n"),
        };
        let body = if is_tunnel { "" } else { target.as_str() };
        let length = if is_tunnel { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let text = format!("HTTP/1.1 {status}\r\n{length}{more}\r\n{body}");
        if stream.write_all(text.as_bytes()).await.is_err() || is_last {
            return;
        }
    }
}

/// The proxy for these mirrors, which the host reaches as `settings` say.
fn proxy(urls: &[String], settings: &[&str]) -> Arc<Mirrors> {
    let settings: Vec<Secret> = settings.iter().map(|setting| Secret::new(*setting)).collect();
    let dir = tempfile::tempdir().unwrap();
    let log = BuildLog::create(dir.path(), "x", "1", Redactor::default()).unwrap();
    let sites = urls.iter().map(|url| Site::of_url(url).unwrap());
    let sites = sites.map(|site| (site.clone(), Way::find(&site, &settings, |_| None).unwrap())).collect();
    Arc::new(Mirrors { sites, log, told: Mutex::default() })
}

fn connect(mirrors: &Arc<Mirrors>) -> DuplexStream {
    let (near, far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(serve::one(Arc::clone(mirrors), far));
    near
}

/// All that is answered to these bytes, the last of which ask for an end.
async fn said(mirrors: &Arc<Mirrors>, request: &[u8]) -> String {
    let mut stream = connect(mirrors);
    stream.write_all(request).await.unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.unwrap();
    String::from_utf8_lossy(&said).into_owned()
}

fn get(url: &str) -> String {
    format!("GET {url} HTTP/1.1\r\nHost: elsewhere\r\nConnection: x-own\r\nX-Own: 1\r\nX-Asked: 1\r\n\r\n")
}

fn get_last(url: &str) -> String {
    format!("GET {url} HTTP/1.1\r\nConnection: close\r\n\r\n")
}

#[test]
fn a_step_is_told_unless_it_tells_itself() {
    let told = |plain: &[&str], secret: &[&str]| {
        let mut environment = Environment::default();
        let own = |name: &&str| ((*name).to_owned(), "own".to_owned());
        environment.plain = plain.iter().map(own).collect();
        environment.secret = secret.iter().map(|name| ((*name).to_owned(), Secret::new("own"))).collect();
        tell(&mut environment, 3128);
        let ours = environment.plain.into_iter().filter(|(_, value)| value == "http://127.0.0.1:3128");
        ours.map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(told(&[], &[]), ["HTTPS_PROXY", "HTTP_PROXY", "http_proxy", "https_proxy"]);
    assert_eq!(told(&["http_proxy", "OTHER"], &[]), ["HTTPS_PROXY", "https_proxy"]);
    assert_eq!(told(&[], &["HTTPS_PROXY"]), ["HTTP_PROXY", "http_proxy"]);
}

#[test]
fn the_hosts_proxies_are_taken_out_of_the_bootstraps_settings() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("99mmdebstrap");
    let own = "/etc/apt/apt.conf.d/99mmdebstrap";
    assert!(FORGET_PROXIES.contains(own));
    let script = FORGET_PROXIES.replace(own, file.to_str().unwrap());
    let run =
        || assert!(std::process::Command::new("sh").args(["-euc", &script]).status().unwrap().success());
    run();
    let stays = "APT::Install-Recommends \"false\";\nAcquire::https::Verify-Peer \"false\";\n";
    let goes = "Acquire::http::Proxy \"http://one:3142\";\nAcquire::https::Proxy::m.example \"DIRECT\";\n";
    std::fs::write(&file, format!("{goes}{stays}")).unwrap();
    run();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), stays);
}

#[tokio::test]
async fn mirrors_are_reached_one_request_after_the_other_and_nobody_else_is() {
    let (mirror, other) = (Server::start().await, Server::start().await);
    let url = format!("http://{}", mirror.address);
    let mirrors = proxy(&[format!("{url}/debian")], &[]);
    // Not waiting for answers, as APT does; the mirror hangs up in between.
    let asked = [get(&format!("{url}/a?b")), get(&format!("{url}/last")), get(&format!("{url}/moved"))];
    let said =
        said(&mirrors, (asked.concat() + &get_last(&format!("http://{}/c", other.address))).as_bytes()).await;
    let statuses: Vec<&str> = said.split("HTTP/1.1 ").skip(1).filter_map(|part| part.get(..3)).collect();
    assert_eq!(statuses, ["200", "200", "302", "403"], "{said}");
    assert!(said.contains("/a?b") && said.contains("location: http://127.0.0.1:9/x"), "{said}");
    assert!(said.contains("x-end: 1") && !said.contains("x-hop"), "{said}");
    let refusal = format!(
        "`network = \"mirror\"` of this image lets its steps reach {url} only, not http://{}.\n",
        other.address
    );
    assert!(said.ends_with(&refusal), "{said}");
    let head = mirror.requests().swap_remove(0);
    assert!(
        head.starts_with("GET /a?b HTTP/1.1\r\n") && head.contains(&format!("host: {}\r\n", mirror.address)),
        "{head}"
    );
    assert!(head.contains("x-asked: 1") && !head.contains("x-own") && !head.contains("elsewhere"), "{head}");
    // One after the hang-up.
    assert_eq!((mirror.visits(), other.visits()), (2, 0));
    assert!(
        mirrors.log.tail(9).contains(&format!("Refused by `network = \"mirror\"`: http://{}", other.address))
    );
}

#[tokio::test]
async fn many_are_served_at_a_time_and_what_ends_them_ends_all() {
    let mirror = Server::start().await;
    let url = format!("http://{}/", mirror.address);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(proxy(std::slice::from_ref(&url), &[]).serve_at(listener));
    // More than are served: those that say nothing are in nobody's way once they have gone.
    let silent = futures::future::join_all((0..60).map(|_| TcpStream::connect(address))).await;
    let ask = |number: usize| {
        let request = get_last(&format!("{url}{number}"));
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).await.unwrap();
            assert!(said.ends_with(&format!("/{number}")), "{said}");
        }
    };
    futures::future::join_all((0..40).map(ask)).await;
    assert_eq!(mirror.visits(), 40);
    drop(silent);
    let mut last = TcpStream::connect(address).await.unwrap();
    last.write_all(b"GET ").await.unwrap();
    served.abort();
    assert!(matches!(last.read(&mut [0; 9]).await, Ok(0) | Err(_)), "somebody is still served");
}

#[tokio::test]
async fn a_tunnel_leads_to_a_mirror_alone() {
    let (mirror, other) = (Server::start().await, Server::start().await);
    let mirrors = proxy(&[format!("https://{}", mirror.address)], &[]);
    for (target, status) in [(mirror.address, "200"), (other.address, "403")] {
        let mut stream = connect(&mirrors);
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head[9..], status.as_bytes(), "{target}");
        if status == "200" {
            stream.write_all(b"GET /inside HTTP/1.1\r\n\r\n").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).await.unwrap();
            assert!(said.ends_with("/inside"), "{said}");
        }
    }
    // Nor in the open, where the mirror is known by TLS.
    let said = said(&mirrors, get_last(&format!("http://{}/", mirror.address)).as_bytes()).await;
    assert!(said.starts_with("HTTP/1.1 403 "), "{said}");
    assert_eq!((mirror.visits(), other.visits()), (1, 0));
}

/// The names are nobody's: only the proxy on the way is asked.
#[tokio::test]
async fn the_hosts_own_proxy_is_on_the_way_with_its_login() {
    let way = Server::start().await;
    let setting = format!("Acquire::http::Proxy \"http://user:canary@{}\"", way.address);
    let urls = ["http://mirror.invalid/debian", "https://mirror.invalid:8443"].map(str::to_owned);
    let mirrors = proxy(&urls, &[&setting]);
    let said = said(&mirrors, get_last("http://mirror.invalid/x").as_bytes()).await;
    assert!(said.ends_with("http://mirror.invalid/x") && !said.contains("canary"), "{said}");
    let mut stream = connect(&mirrors);
    stream.write_all(b"CONNECT mirror.invalid:8443 HTTP/1.1\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head[9..], b"200");
    let requests = way.requests();
    assert!(requests[0].starts_with("GET http://mirror.invalid/x HTTP/1.1\r\n"), "{requests:?}");
    assert!(requests[1].starts_with("CONNECT mirror.invalid:8443 HTTP/1.1\r\n"), "{requests:?}");
    let login = "proxy-authorization: Basic dXNlcjpjYW5hcnk=\r\n";
    assert!(requests.iter().all(|request| request.contains(login)), "{requests:?}");
    assert!(!format!("{mirrors:?}").contains("dXNl"), "a password is shown");
}

#[tokio::test]
async fn a_mirror_that_is_not_there_is_told() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mirrors = proxy(&[format!("http://{nobody}"), format!("https://{nobody}")], &[]);
    for request in [
        get_last(&format!("http://{nobody}/")),
        format!("CONNECT {nobody} HTTP/1.1\r\nConnection: close\r\n\r\n"),
    ] {
        let said = said(&mirrors, request.as_bytes()).await;
        assert!(said.starts_with("HTTP/1.1 502 ") && said.contains("refused"), "{said}");
    }
}

/// What is put together from pieces of requests that look like ones for the mirror, and anything at all.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let whole = [
        "GET http://MIRROR/x HTTP/1.1\r\n",
        "GET http://OTHER/x HTTP/1.1\r\n\r\n",
        "GET http://MIRROR@OTHER/x HTTP/1.1\r\n\r\n",
        "GET http://OTHER#MIRROR HTTP/1.1\r\n\r\n",
        "GET http://MIRROR/ http://OTHER/ HTTP/1.1\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: OTHER\r\n\r\n",
        "CONNECT MIRROR HTTP/1.1\r\n",
        "CONNECT OTHER HTTP/1.1\r\n\r\n",
        "Host: OTHER\r\n",
    ];
    let pieces = [
        "GET ",
        "HEAD ",
        "CONNECT ",
        "POST ",
        "http://",
        "https://",
        "MIRROR",
        "OTHER",
        "user@",
        "user:a@",
        "@",
        "#",
        "?",
        "/",
        "\\",
        "%2f",
        "%00",
        ".",
        "..",
        ":",
        "[",
        "]",
        " ",
        "\t",
        " HTTP/1.1",
        " HTTP/1.0",
        "\r\n",
        "\n",
        "\r",
        "\r\n\r\n",
        "Host: ",
        "Transfer-Encoding: chunked",
        "Content-Length: 5",
        "Connection: close",
        "Upgrade: h2c",
        "Expect: 100-continue",
        "0",
    ];
    let piece = prop_oneof![
        4 => prop::sample::select(whole.to_vec()).prop_map(|piece| piece.as_bytes().to_vec()),
        8 => prop::sample::select(pieces.to_vec()).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_bytes_lead_elsewhere(bytes in hostile()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mirror, other) = (Server::start().await, Server::start().await);
            let text = bytes.iter().map(|byte| char::from(*byte)).collect::<String>();
            let text = text.replace("MIRROR", &mirror.address.to_string()).replace("OTHER", &other.address.to_string());
            let bytes: Vec<u8> = text.chars().filter_map(|c| u8::try_from(c).ok()).collect();
            let urls = [format!("http://{}", mirror.address), format!("https://{}", mirror.address)];
            let mut stream = connect(&proxy(&urls, &[]));
            // Who has heard enough may hang up.
            let _ = stream.write_all(&bytes).await;
            let (brief, long) = (std::time::Duration::from_millis(5), std::time::Duration::from_secs(20));
            tokio::time::sleep(brief).await;
            let _ = stream.shutdown().await;
            let ended = tokio::time::timeout(long, stream.read_to_end(&mut Vec::new())).await;
            assert!(ended.is_ok(), "it does not end");
            assert_eq!(other.visits(), 0);
        });
    }
}
