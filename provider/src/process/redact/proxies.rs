//! Passwords of the proxies in our environment: programs of a build see these variables, and may print them.

use super::Secret;
use crate::process::command::PROXIES;

/// The passwords, as they are written in the URLs.
pub(super) fn passwords(variable: impl Fn(&str) -> Option<String>) -> Vec<Secret> {
    let urls = PROXIES.iter().filter_map(|name| variable(name));
    urls.filter_map(|url| password(&url).map(Secret::new)).collect()
}

fn password(url: &str) -> Option<&str> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next()?;
    let (login, _) = authority.rsplit_once('@')?;
    login.split_once(':').map(|(_, password)| password)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Redactor;

    #[test]
    fn a_proxy_has_a_password_or_none() {
        for (url, expected) in [
            ("http://proxy:3128", None),
            ("http://me@proxy:3128/", None),
            ("http://me:hunter22@proxy:3128", Some(("hunter22", "hunter22"))),
            ("me:p%40ss:w%2Fd@proxy", Some(("p%40ss:w%2Fd", "p@ss:w/d"))),
            ("http://proxy/a:b@c", None),
            ("", None),
        ] {
            let found = passwords(|name| (name == "https_proxy").then(|| url.to_owned()));
            let written: Vec<&str> = found.iter().map(Secret::expose).collect();
            assert_eq!(
                written,
                expected.map(|(written, _)| written).into_iter().collect::<Vec<_>>(),
                "{url}"
            );
            // As it is written, and as the proxy gets it.
            for shown in expected.into_iter().flat_map(|(written, read)| [written, read]) {
                assert_eq!(Redactor::new(&found).redact(shown), "(redacted)", "{url}");
            }
        }
    }
}
