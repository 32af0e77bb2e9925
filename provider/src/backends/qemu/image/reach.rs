//! How this computer's APT reaches mirrors, which a base system is made with.

use super::apt_login::Login;
use super::apt_sources::{self, Line};
use super::distribution::Distribution;
use super::layer_id::hash;
use super::{BuildError, Here, apt_options};
use crate::backends::qemu::Bootstrap;
use crate::process::Secret;

/// A tree has it inside, for its steps: with another proxy it is another layer.
#[derive(Debug)]
pub(super) struct Reach {
    /// Who logs in where.
    pub(super) login: Login,
    /// Settings.
    pub(super) options: Vec<String>,
    /// The mirrors themselves.
    pub(super) sources: Vec<apt_sources::Source>,
}

impl Reach {
    /// As it is at the moment.
    ///
    /// # Errors
    /// When cancelled.
    pub(super) async fn of_host(here: Here<'_>) -> Result<Self, BuildError> {
        let etc_apt = &here.host.etc_apt;
        let mut login = Login::of_host(etc_apt, here.log);
        let options = apt_options::read(here, &mut login).await?;
        Ok(Self { login, options, sources: apt_sources::read(etc_apt) })
    }

    /// The same with the logins of a request's mirrors, and no others.
    pub(super) fn towards(mut self, spec: &Bootstrap) -> Self {
        let mirrors = self.mirrors(spec);
        self.login.keep(&mirrors);
        self
    }

    /// The layer's name. Users and passwords are not in it, not even as a hash.
    pub(super) fn id(&self, request: &str, spec: &Bootstrap) -> String {
        hash(&(request, &self.options, self.login.proxies(), self.own_lines(spec)))
    }

    /// The addresses that a request's packages come from.
    pub(super) fn mirrors(&self, spec: &Bootstrap) -> Vec<String> {
        let named = spec.mirror.iter().chain(&spec.security_mirror).cloned();
        named.chain(self.own_lines(spec).into_iter().map(|line| line.uri)).collect()
    }

    /// The settings that are about proxies, users and passwords included.
    pub(super) fn proxies(&self) -> Vec<Secret> {
        let plain = self.options.iter().filter(|option| option.contains("::Proxy"));
        plain.map(Secret::new).chain(self.login.whole_proxies().cloned()).collect()
    }

    /// What is taken from the host's own sources; nothing where the request names a mirror.
    fn own_lines(&self, spec: &Bootstrap) -> Vec<Line> {
        let own = Distribution::of_suite(&spec.suite).filter(|_| spec.mirror.is_none());
        own.map_or_else(Vec::new, |distribution| {
            apt_sources::lines_for(&self.sources, distribution, &spec.suite).0
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::process::{BuildLog, Redactor};

    /// The name of a layer where APT has these sources and options.
    fn id(mirror: Option<&str>, sources: &str, options: &[&str], proxy: Option<&str>) -> String {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("sources.list"), sources).unwrap();
        let log = BuildLog::create(&dir.path().join("logs"), "x", "1", Redactor::default()).unwrap();
        let mut login = Login::of_host(dir.path(), &log);
        assert!(proxy.is_none_or(|proxy| login.take_proxy(&format!("Acquire::http::Proxy \"{proxy}\""))));
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let reach = Reach { login, options, sources: apt_sources::read(dir.path()) };
        let spec = Bootstrap {
            suite: "bookworm".into(),
            mirror: mirror.map(str::to_owned),
            security_mirror: None,
            snapshot: None,
            packages: Vec::new(),
        };
        reach.id("request", &spec)
    }

    #[test]
    fn how_mirrors_are_reached_makes_a_layer_and_who_asks_does_not() {
        let (near, far) = (
            "deb http://near.example/debian bookworm main\n",
            "deb http://far.example/debian bookworm main\n",
        );
        let proxy = "Acquire::http::Proxy \"http://one:3142\"";
        let plain = id(None, near, &[], None);
        assert_eq!(plain.len(), 64);
        for (what, other, same) in [
            ("the same", id(None, near, &[], None), true),
            ("another mirror", id(None, far, &[], None), false),
            ("a proxy", id(None, near, &[proxy], None), false),
            ("a proxy with a login", id(None, near, &[], Some("http://a:b@one:3142")), false),
            ("a mirror of the request's", id(Some("http://m.example"), near, &[], None), false),
        ] {
            assert_eq!(plain == other, same, "{what}");
        }
        let own = Some("http://m.example");
        assert_eq!(id(own, near, &[], None), id(own, far, &[], None), "the host's sources are not used");
        let logins = ["http://a:b@one:3142", "http://a:c@one:3142"].map(|it| id(None, near, &[], Some(it)));
        assert_eq!(logins[0], logins[1], "a password is in no name");
    }
}
