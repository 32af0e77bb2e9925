//! `network = "mirror"`: a proxy of ours by which steps reach the package mirrors of their build, and nothing else.
//!
//! Knows neither trees nor guests: they bring it connections that are made where the steps are. See docs/adr/0017.

mod base;
mod connect;
mod serve;
mod site;
mod way;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream;
use hyper::{Method, Uri};
use tokio::net::TcpListener;

pub(super) use self::base::{PRINT as PRINT_SOURCES, urls as urls_of_sources};
use self::site::Site;
use self::way::Way;
use super::BuildError;
use super::reach::Reach;
use crate::domain::Environment;
use crate::process::BuildLog;

/// Run as root where steps are about to: how the host reaches mirrors is nothing that they could do. The file is the
/// bootstrap's, and goes with the steps.
pub(super) const FORGET_PROXIES: &str = "file=/etc/apt/apt.conf.d/99mmdebstrap
if [ -f \"$file\" ]; then sed -i -E '/^Acquire::https?::Proxy(::[^ ]*)? /d' \"$file\"; fi";

/// The variables by which programs know a proxy; some know only one of the two ways to write them.
const VARIABLES: [&str; 4] = ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"];

/// How many different refusals a build's log tells of.
const TOLD: usize = 20;

/// What steps reach.
#[derive(Debug, Clone)]
pub(super) enum Reached {
    /// What this computer does.
    All,
    /// Package mirrors.
    Mirrors(Arc<Mirrors>),
    /// Nothing.
    Nothing,
}

impl Reached {
    /// The mirrors, where it is they.
    pub(super) fn mirrors(self) -> Option<Arc<Mirrors>> {
        match self {
            Self::Mirrors(mirrors) => Some(mirrors),
            Self::All | Self::Nothing => None,
        }
    }
}

/// The mirrors of a build, and how they are reached.
#[derive(Debug)]
pub(super) struct Mirrors {
    sites: Vec<(Site, Way)>,
    log: BuildLog,
    told: Mutex<BTreeSet<String>>,
}

impl Mirrors {
    /// Those behind these URLs.
    ///
    /// # Errors
    /// When there are none, or when this computer reaches one by a proxy that we cannot speak with.
    pub(super) fn new(urls: &[String], reach: &Reach, log: &BuildLog) -> Result<Arc<Self>, BuildError> {
        let settings = reach.proxies();
        let sites: BTreeSet<Site> = urls.iter().filter_map(|url| Site::of_url(url)).collect();
        if sites.is_empty() {
            let reason =
                "APT's sources name no mirror by an address with http(s) and without a login".to_owned();
            return Err(BuildError::NoWay { reason });
        }
        let by_way = |site: Site| {
            let way = Way::find(&site, &settings, |name| std::env::var(name).ok());
            way.map(|way| (site, way)).map_err(|reason| BuildError::NoWay { reason })
        };
        let sites = sites.into_iter().map(by_way).collect::<Result<Vec<_>, _>>()?;
        let mirrors = Self { sites, log: log.clone(), told: Mutex::default() };
        log.line(&format!("The steps reach nothing but {}", mirrors.names()));
        Ok(Arc::new(mirrors))
    }

    /// Serves whoever connects, for ever.
    pub(super) async fn serve_at(self: Arc<Self>, listener: TcpListener) {
        let next = async |listener: TcpListener| {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => return Some((stream, listener)),
                    // As many files open as may be: some will be closed.
                    Err(_) => tokio::time::sleep(serve::PAUSE).await,
                }
            }
        };
        serve::all(self, stream::unfold(listener, next)).await;
    }

    /// Serves whoever comes through a guest's login, until that ends.
    pub(super) async fn serve_incoming(self: Arc<Self>, incoming: crate::ssh::Incoming) {
        let next = async |mut incoming: crate::ssh::Incoming| {
            let stream = incoming.next().await?;
            Some((stream, incoming))
        };
        serve::all(self, stream::unfold(incoming, next)).await;
    }

    /// The mirror that a request is for.
    fn find(&self, method: &Method, uri: &Uri) -> Result<&(Site, Way), String> {
        let asked = Site::asked(method, uri)?;
        let found = self.sites.iter().find(|(site, _)| *site == asked);
        found.ok_or_else(|| asked.to_string())
    }

    /// What a program is told that asked for something else. The log tells it, too: many a program does not.
    fn refuse(&self, asked: &str) -> String {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < TOLD && told.insert(asked.to_owned()) {
            self.log.line(&format!("Refused by `network = \"mirror\"`: {asked}"));
        }
        format!(
            "`network = \"mirror\"` of this image lets its steps reach {} only, not {asked}.\n",
            self.names()
        )
    }

    fn names(&self) -> String {
        self.sites.iter().map(|(site, _)| site.to_string()).collect::<Vec<_>>().join(", ")
    }
}

/// Tells a step of the proxy at a port of its loopback address, unless its own environment tells of one.
pub(super) fn tell(environment: &mut Environment, port: u16) {
    let has = |name: &str| {
        let (plain, secret) = (environment.plain.keys(), environment.secret.keys());
        plain.chain(secret).any(|own| own.eq_ignore_ascii_case(name))
    };
    let ours: Vec<_> = VARIABLES.into_iter().filter(|name| !has(name)).collect();
    let address = format!("http://127.0.0.1:{port}");
    environment.plain.extend(ours.into_iter().map(|name| (name.to_owned(), address.clone())));
}

#[cfg(test)]
mod tests;
