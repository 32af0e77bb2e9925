//! A host and a port: what a mirror's URL names, and what a request asks for.

use std::fmt;

use hyper::{Method, Uri};

/// The longest part of an address that is repeated to whoever asked for it.
const SHOWN: usize = 200;

/// How a mirror is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scheme {
    /// In the open; requests come to us one by one.
    Http,
    /// By TLS, of which we see nothing: a tunnel.
    Https,
}

/// Where a mirror is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Site {
    pub(super) scheme: Scheme,
    host: String,
    pub(super) port: u16,
}

impl Scheme {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl Site {
    /// The one of a URL. None for what is no http(s) URL, or has a user in it.
    pub(super) fn of_url(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let scheme = match uri.scheme_str()? {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        Self::new(scheme, &uri)
    }

    /// What a request to a proxy asks for: `GET http://host/path`, `CONNECT host:port`.
    ///
    /// # Errors
    /// What it asks for, in words, when that can be no mirror.
    pub(super) fn asked(method: &Method, uri: &Uri) -> Result<Self, String> {
        let shown = || {
            let uri: String = uri.to_string().chars().take(SHOWN).collect();
            format!("{method} {uri}")
        };
        let site = match *method {
            // Only to where it is said to go: no port is guessed.
            Method::CONNECT => uri.port_u16().and_then(|_| Self::new(Scheme::Https, uri)),
            Method::GET | Method::HEAD if uri.scheme_str() == Some("http") => Self::new(Scheme::Http, uri),
            _ => None,
        };
        site.ok_or_else(shown)
    }

    fn new(scheme: Scheme, uri: &Uri) -> Option<Self> {
        let authority = uri.authority()?;
        let host = authority.host().to_ascii_lowercase();
        // A port that is none (`host:`, `host:99999`) is not the usual one.
        let port = match authority.port_u16() {
            Some(port) => port,
            None if authority.as_str().len() == host.len() => scheme.port(),
            None => return None,
        };
        let whole = !host.is_empty() && !authority.as_str().contains('@');
        whole.then_some(Self { scheme, host, port })
    }

    /// As a name is looked up: an IPv6 address without its brackets.
    pub(super) fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// As a request to a proxy for a tunnel has it.
    pub(super) fn with_port(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// As a request has it: without a port that is the usual one.
    pub(super) fn authority(&self) -> String {
        if self.port == self.scheme.port() { self.host.clone() } else { self.with_port() }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_mirrors() {
        for (url, expected) in [
            ("http://m.example/debian", Some("http://m.example")),
            ("http://M.Example:80/debian/", Some("http://m.example")),
            ("https://m.example:8443/a/20260101T000000Z", Some("https://m.example:8443")),
            ("http://[2001:DB8::1]:3142/debian", Some("http://[2001:db8::1]:3142")),
            ("http://127.0.0.1:1/x", Some("http://127.0.0.1:1")),
            ("https://me:secret@m.example/debian", None),
            ("http://m.example:99999/debian", None),
            ("http:///debian", None),
            ("ftp://m.example/debian", None),
            ("mirror+file:/etc/apt/mirrors/debian.list", None),
            ("", None),
        ] {
            assert_eq!(Site::of_url(url).map(|site| site.to_string()).as_deref(), expected, "{url}");
        }
        let site = Site::of_url("http://[2001:db8::1]/").unwrap();
        assert_eq!((site.host(), site.with_port().as_str()), ("2001:db8::1", "[2001:db8::1]:80"));
    }

    #[test]
    fn what_requests_ask_for() {
        for (method, uri, expected) in [
            ("GET", "http://M.example/x?y", Ok("http://m.example")),
            ("HEAD", "http://m.example:80", Ok("http://m.example")),
            ("GET", "http://m.example:81/", Ok("http://m.example:81")),
            ("CONNECT", "m.example:443", Ok("https://m.example")),
            ("CONNECT", "m.example:22", Ok("https://m.example:22")),
            ("CONNECT", "[::1]:443", Ok("https://[::1]")),
            // Not the same host, whatever a resolver thinks.
            ("GET", "http://m.example./x", Ok("http://m.example.")),
            ("GET", "/x", Err("GET /x")),
            ("GET", "https://m.example/x", Err("GET https://m.example/x")),
            ("GET", "http://a:b@m.example/x", Err("GET http://a:b@m.example/x")),
            ("POST", "http://m.example/x", Err("POST http://m.example/x")),
            ("OPTIONS", "*", Err("OPTIONS *")),
            ("CONNECT", "m.example", Err("CONNECT m.example")),
            ("CONNECT", "evil@m.example:443", Err("CONNECT evil@m.example:443")),
        ] {
            let asked = Site::asked(&method.parse().unwrap(), &uri.parse().unwrap());
            let asked = asked.map(|site| site.to_string());
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(asked, expected, "{method} {uri}");
        }
        let long: Uri = format!("/{}", "x".repeat(9000)).parse().unwrap();
        assert!(Site::asked(&Method::GET, &long).unwrap_err().len() < SHOWN + 10);
    }
}
