//! What an endpoint that the provider's configuration names answers for.

use super::settings;

/// Whether it is on this computer, as emulators are.
pub(super) fn is_here(url: &str) -> bool {
    let host = host(url);
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || host.ends_with(".localhost") || address.is_ok_and(|it| it.is_loopback())
}

/// Whether it answers for EC2 in a region: one on this computer for all of them, one with a region in its name for that, and
/// any other for the provider's.
pub(super) fn serves(url: &str, region: &str, providers: &str) -> bool {
    let host = host(url);
    let named = host.split('.').find(|label| settings::region(label).is_ok());
    is_here(url) || named.unwrap_or(providers) == region
}

/// The name or address of a URL's server.
fn host(url: &str) -> &str {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split(['/', '?', '#']).next();
    let server = authority.unwrap_or_default().rsplit('@').next().unwrap_or_default();
    match server.find(']') {
        Some(end) => &server[..=end],
        None => server.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulator_is_asked_for_all_and_an_endpoint_for_its_region() {
        let private = "https://vpce-0123-abcd.ec2.eu-west-1.vpce.amazonaws.com";
        for (url, is_all, regions) in [
            ("http://127.0.0.1:5000", true, &["us-west-2", "eu-west-1"][..]),
            ("http://localhost:4566/", true, &["us-west-2", "eu-west-1"]),
            ("http://ec2.localhost", true, &["us-west-2", "eu-west-1"]),
            ("https://[::1]:5000", true, &["us-west-2", "eu-west-1"]),
            ("https://user@127.0.0.2/x", true, &["us-west-2", "eu-west-1"]),
            (private, false, &["eu-west-1"]),
            ("https://ec2.us-west-2.amazonaws.com:443", false, &["us-west-2"]),
            ("https://ec2.example", false, &["us-west-2"]),
            ("https://127.0.0.1.example", false, &["us-west-2"]),
            ("https://[2001:db8::1]:5000", false, &["us-west-2"]),
        ] {
            assert_eq!(is_here(url), is_all, "{url}");
            let served: Vec<_> =
                ["us-west-2", "eu-west-1"].into_iter().filter(|it| serves(url, it, "us-west-2")).collect();
            assert_eq!(served, regions, "{url}");
        }
    }
}
