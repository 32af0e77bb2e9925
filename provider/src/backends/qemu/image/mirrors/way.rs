//! How this computer's APT reaches a site, in the words of apt.conf(5): by itself, or through a proxy.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Uri;

use super::site::{Scheme, Site};
use crate::backends::qemu::image::apt_login::decoded;
use crate::process::Secret;

/// The way to a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// It is connected to.
    Direct,
    /// Somebody else is asked to.
    Through(Proxy),
}

/// A proxy that is spoken to by HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    pub(super) host: String,
    pub(super) port: u16,
    /// The value of `Proxy-Authorization`.
    pub(super) login: Option<Secret>,
}

impl Way {
    /// By APT's settings, each as `Acquire::http::Proxy "http://proxy:3128"`, or where they say nothing by the environment.
    ///
    /// # Errors
    /// What is to be told when it is a proxy of another kind.
    pub(super) fn find(
        site: &Site,
        settings: &[Secret],
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let proxy = configured(site, settings).or_else(|| from_environment(site, &variable));
        let Some(proxy) = proxy else { return Ok(Self::Direct) };
        if proxy == "DIRECT" || variable("no_proxy").is_some_and(|list| is_listed(site.host(), &list)) {
            return Ok(Self::Direct);
        }
        let read = Proxy::read(&proxy).map(Self::Through);
        read.ok_or_else(|| {
            format!("this computer's APT reaches {site} through a proxy that is no `http://host:port`")
        })
    }
}

/// The setting for the host alone first, then that for all; those for https default to those for http.
fn configured(site: &Site, settings: &[Secret]) -> Option<String> {
    let value = |name: &str| {
        let settings = settings.iter().filter_map(|setting| setting.expose().split_once(' '));
        let mut values = settings.filter(|(setting, _)| setting.eq_ignore_ascii_case(name));
        values.next_back().map(|(_, value)| value.trim_matches('"').to_owned())
    };
    let schemes: &[&str] = match site.scheme {
        Scheme::Http => &["http"],
        Scheme::Https => &["https", "http"],
    };
    let of = |end: &str| schemes.iter().find_map(|scheme| value(&format!("Acquire::{scheme}::Proxy{end}")));
    of(&format!("::{}", site.host())).or_else(|| of(""))
}

fn from_environment(site: &Site, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    match site.scheme {
        Scheme::Http => set("http_proxy"),
        Scheme::Https => set("https_proxy").or_else(|| set("http_proxy")),
    }
}

fn is_listed(host: &str, list: &str) -> bool {
    let ends = list.split(',').map(|end| end.trim().to_ascii_lowercase());
    ends.into_iter().any(|end| !end.is_empty() && host.ends_with(&end))
}

impl Proxy {
    fn read(address: &str) -> Option<Self> {
        let address = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let uri: Uri = address.parse().ok()?;
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http"))?;
        let login = match authority.as_str().rsplit_once('@') {
            Some((login, _)) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                let login = format!("{}:{}", decoded(user)?, decoded(password)?);
                Some(Secret::new(format!("Basic {}", STANDARD.encode(login))))
            }
            None => None,
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = authority.port_u16().unwrap_or(80);
        (!host.is_empty()).then(|| Self { host: host.to_owned(), port, login })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(url: &str, settings: &[&str], variables: &[(&str, &str)]) -> Result<String, String> {
        let site = Site::of_url(url).unwrap();
        let settings: Vec<Secret> = settings.iter().map(|setting| Secret::new(*setting)).collect();
        let variable = |name: &str| {
            let found = variables.iter().find(|(own, _)| *own == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let way = Way::find(&site, &settings, variable)?;
        Ok(match way {
            Way::Direct => "direct".to_owned(),
            Way::Through(Proxy { host, port, login }) => {
                let login = login.map_or_else(String::new, |login| format!(" {}", login.expose()));
                format!("{host}:{port}{login}")
            }
        })
    }

    #[test]
    fn settings_come_before_the_environment_and_a_hosts_own_before_all() {
        const HTTP: &str = "Acquire::http::Proxy \"http://one:3142\"";
        const HTTPS: &str = "Acquire::https::Proxy \"http://two:3142/\"";
        const OWN: &str = "Acquire::http::Proxy::m.example \"DIRECT\"";
        const OTHER: &str = "Acquire::http::Proxy::n.example \"DIRECT\"";
        let (m, s) = ("http://m.example/debian", "https://m.example/debian");
        for (url, settings, variables, expected) in [
            (m, &[][..], &[][..], "direct"),
            (m, &[HTTP, HTTPS], &[], "one:3142"),
            (s, &[HTTP, HTTPS], &[], "two:3142"),
            (s, &[HTTP], &[], "one:3142"),
            (m, &[HTTPS], &[], "direct"),
            (m, &[HTTP, OWN], &[], "direct"),
            (m, &[OTHER, HTTP], &[], "one:3142"),
            (m, &[HTTP], &[("http_proxy", "http://env:1")], "one:3142"),
            (m, &[], &[("http_proxy", "http://env:1")], "env:1"),
            (m, &[], &[("http_proxy", "env:1")], "env:1"),
            (m, &[], &[("http_proxy", "")], "direct"),
            (m, &[], &[("https_proxy", "http://env:1")], "direct"),
            (s, &[], &[("http_proxy", "http://env:1")], "env:1"),
            (s, &[], &[("http_proxy", "http://env:1"), ("https_proxy", "http://env")], "env:80"),
            (m, &[HTTP], &[("no_proxy", "other, .EXAMPLE")], "direct"),
            (m, &[HTTP], &[("no_proxy", ",other")], "one:3142"),
            (m, &["Acquire::http::Proxy \"http://a:b%40c@[::1]:1\""], &[], "::1:1 Basic YTpiQGM="),
        ] {
            assert_eq!(
                way(url, settings, variables).as_deref(),
                Ok(expected),
                "{url} {settings:?} {variables:?}"
            );
        }
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_told_without_its_password() {
        for proxy in ["socks5h://a:canary@proxy", "https://proxy:1", "http://a:canary%zz@proxy", "http://"] {
            let told =
                way("http://m.example/", &[&format!("Acquire::http::Proxy \"{proxy}\"")], &[]).unwrap_err();
            assert!(told.contains("http://m.example") && !told.contains("canary"), "{proxy}: {told}");
        }
    }
}
