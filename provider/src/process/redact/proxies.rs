//! Passwords of the proxies in our environment: programs of a build see these variables, and may print them.

use super::Secret;
use super::view::percent;

/// Where programs look for a proxy.
const VARIABLES: [&str; 4] = ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"];

/// The passwords, as they are written in the URLs and as proxies get them.
pub(super) fn passwords(variable: impl Fn(&str) -> Option<String>) -> Vec<Secret> {
    let urls = VARIABLES.iter().filter_map(|name| variable(name));
    let passwords = urls.filter_map(|url| password(&url).map(str::to_owned));
    passwords.flat_map(|written| [decoded(&written), written]).map(Secret::new).collect()
}

fn password(url: &str) -> Option<&str> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next()?;
    let (login, _) = authority.rsplit_once('@')?;
    login.split_once(':').map(|(_, password)| password)
}

fn decoded(written: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), written.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let (read, length) = percent(rest).unwrap_or_else(|| (vec![*first], rest.len() - after.len()));
        bytes.extend(read);
        rest = &rest[length..];
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let found: Vec<&str> = found.iter().map(Secret::expose).collect();
            let expected: Vec<&str> =
                expected.into_iter().flat_map(|(written, read)| [read, written]).collect();
            assert_eq!(found, expected, "{url}");
        }
    }
}
