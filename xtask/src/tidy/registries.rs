//! No host name of a package registry is compiled in or scripted: the machine says where its packages
//! come from. The names to look for are read from this machine's own settings, so that none stands here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Finding;

/// Files that other tools write with such names in them.
const GENERATED: [&str; 2] = ["Cargo.lock", "LICENSE"];

/// The hosts that this machine's apt, Go, pip and cargo are set to.
pub(crate) fn configured_hosts() -> BTreeSet<String> {
    let mut settings: Vec<String> =
        apt_files().iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    settings.extend(["GOPROXY", "GOSUMDB"].iter().filter_map(|name| printed("go", &["env", name])));
    settings.extend(printed("pip", &["config", "list"]));
    settings
        .extend(["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"].iter().filter_map(|name| std::env::var(name).ok()));
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home =
        cargo_home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    settings.extend(cargo_home.and_then(|home| fs::read_to_string(home.join("config.toml")).ok()));
    settings.iter().flat_map(|text| hosts_in(text)).collect()
}

fn apt_files() -> Vec<PathBuf> {
    let listed =
        fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
    listed.chain([PathBuf::from("/etc/apt/sources.list")]).collect()
}

/// What a tool prints about itself; nothing when it is not installed.
fn printed(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The host names of all URLs in a text, and a bare host name where it is all the text.
fn hosts_in(text: &str) -> BTreeSet<String> {
    let of_urls = text.split("://").skip(1);
    let bare =
        text.split(',').map(str::trim).filter(|word| word.contains('.') && !word.contains([' ', '/', '\n']));
    let host = |rest: &str| {
        let authority = rest.split(|c: char| c == '/' || c.is_whitespace() || "'\"|,".contains(c)).next()?;
        let host = authority.rsplit('@').next()?.split(':').next()?;
        (host.contains('.') && host.parse::<std::net::IpAddr>().is_err()).then(|| host.to_owned())
    };
    of_urls.chain(bare).filter_map(host).collect()
}

/// Lines that name one of the hosts.
pub(crate) fn check(file: &Path, text: &str, hosts: &BTreeSet<String>) -> Vec<Finding> {
    if GENERATED.iter().any(|name| file.ends_with(name)) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for host in hosts.iter().filter(|host| line.contains(host.as_str())) {
            let what = format!("names the package host {host}: it comes from the machine's own settings");
            findings.push(Finding::new(file, number + 1, what));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_from_settings_of_every_kind() {
        for (text, hosts) in [
            ("deb [arch=amd64] http://mirror.example.org/debian stable main", vec!["mirror.example.org"]),
            (
                "URIs: https://user:secret@a.example:8080/debian http://b.example/x\n",
                vec!["a.example", "b.example"],
            ),
            ("https://proxy.example.com,direct\n", vec!["proxy.example.com"]),
            ("sum.example.org", vec!["sum.example.org"]),
            ("global.index-url='https://pypi.example/simple'", vec!["pypi.example"]),
            ("http://127.0.0.1:3142/debian", vec![]),
            ("off", vec![]),
        ] {
            let found: Vec<String> = hosts_in(text).into_iter().collect();
            assert_eq!(found, hosts, "{text}");
        }
    }

    #[test]
    fn a_named_host_is_found_with_its_line() {
        let hosts = BTreeSet::from(["mirror.example.org".to_owned()]);
        let text = "one\nconst MIRROR: &str = \"http://mirror.example.org/debian\";\n";
        let findings = check(Path::new("a.rs"), text, &hosts);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].line, 2);
        assert!(check(Path::new("Cargo.lock"), text, &hosts).is_empty());
    }
}
