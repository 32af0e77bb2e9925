//! A mirror's release file: whether it has the suite, whose it is, and from when.

use std::path::Path;
use std::time::Duration;

use super::apt_login::Login;
use super::{BuildError, Here};
use crate::backends::qemu::host::apt_helper;
use crate::process::{Command, Finished, Limits, ProcessError};

/// What matters of an `InRelease` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Release {
    /// `Debian`.
    pub(super) origin: String,
    /// `bookworm`.
    pub(super) codename: String,
    /// `12.5`; empty when the suite has none.
    pub(super) version: String,
    /// When it was made, seconds since 1970.
    pub(super) date: i64,
}

/// How long a mirror has to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks the mirror for the suite's release file, by APT itself: its proxies and certificates are those of the host. APT checks
/// its signature later; here it only serves to tell a wrong suite from a mirror that cannot be reached. None when the mirror
/// has no such suite.
///
/// # Errors
/// When the mirror does not answer or answers with something else.
pub(super) async fn fetch(
    here: Here<'_>,
    uri: &str,
    suite: &str,
    login: &Login,
) -> Result<Option<Release>, BuildError> {
    let broken = |reason: String| BuildError::Mirror { url: uri.to_owned(), reason };
    let folder = tempfile::tempdir().map_err(BuildError::io("create", &std::env::temp_dir()))?;
    let file = folder.path().join("InRelease");
    let limits = Limits { cancel: here.cancel.clone(), timeout: Some(PATIENCE) };
    let login = login.option(folder.path())?;
    let asked = here.host.runner.run(&command(uri, suite, login.as_deref(), &file), None, &limits).await;
    let finished = match asked {
        Err(ProcessError::Timeout { limit, .. }) => {
            return Err(broken(format!("it did not answer within {limit:?}")));
        }
        other => other.map_err(BuildError::tool("ask the package mirror"))?,
    };
    match refusal(&finished) {
        None => {
            let text = std::fs::read(&file).map_err(BuildError::io("read", &file))?;
            let release = parse(&String::from_utf8_lossy(&text));
            release.map(Some).ok_or_else(|| broken(format!("{} is not a release file", address(uri, suite))))
        }
        Some(Refusal::NotThere) => Ok(None),
        Some(Refusal::Broken(reason)) => Err(broken(reason)),
    }
}

fn address(uri: &str, suite: &str) -> String {
    format!("{uri}/dists/{suite}/InRelease")
}

fn command(uri: &str, suite: &str, login: Option<&str>, file: &Path) -> Command {
    let helper = apt_helper().unwrap_or_else(|| "apt-helper".into());
    // Its own user could not write into our folder.
    let options = ["APT::Sandbox::User=root", "Acquire::Retries=0", "Acquire::http::Timeout=20"];
    let command =
        options.into_iter().chain(login).fold(Command::new(helper), |command, it| command.args(["-o", it]));
    command.args(["download-file", &address(uri, suite)]).arg(file)
}

/// Why there is no file.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// The mirror says that it has none.
    NotThere,
    /// Anything else.
    Broken(String),
}

/// What APT's downloader says: `E: Failed to fetch URL  404  Not Found [IP: …]`.
fn refusal(finished: &Finished) -> Option<Refusal> {
    if finished.code == 0 {
        return None;
    }
    let mut errors = finished.output.lines().filter_map(|line| line.strip_prefix("E: "));
    let first = errors.next().unwrap_or("it ended without a word");
    let reason = first.strip_prefix("Failed to fetch ").and_then(|rest| rest.split_once("  "));
    let reason = reason.map_or(first, |(_, reason)| reason).trim();
    let gone = ["404 ", "410 "].iter().any(|code| reason.starts_with(code));
    Some(if gone { Refusal::NotThere } else { Refusal::Broken(reason.to_owned()) })
}

fn parse(text: &str) -> Option<Release> {
    let field = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        lines.next().map(|value| value.trim().to_owned())
    };
    let date = field("Date")?;
    let date = date.strip_suffix("UTC").map_or_else(|| date.clone(), |date| format!("{date}+0000"));
    Some(Release {
        origin: field("Origin")?,
        codename: field("Codename").or_else(|| field("Suite"))?,
        version: field("Version").unwrap_or_default(),
        date: chrono::DateTime::parse_from_rfc2822(&date).ok()?.timestamp(),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn what_apt_says_of_a_mirror() {
        let broken = |reason: &str| Some(Refusal::Broken(reason.to_owned()));
        for (code, output, expected) in [
            (0, "Get:1 http://m/dists/x/InRelease [151 kB]\n", None),
            (
                100,
                "Err:1 http://m/dists/x/InRelease\n  404  Not Found [IP: 192.0.2.1 80]\n\
                 E: Failed to fetch http://m/dists/x/InRelease  404  Not Found [IP: 192.0.2.1 80]\nE: Download Failed\n",
                Some(Refusal::NotThere),
            ),
            (
                100,
                "W: odd\nE: Failed to fetch https://m/dists/x/InRelease  Could not connect to m:443 - connect (111: Connection refused)\n",
                broken("Could not connect to m:443 - connect (111: Connection refused)"),
            ),
            (100, "E: Failed to fetch http://m/InRelease  503  no 404 here\n", broken("503  no 404 here")),
            (
                100,
                "E: The method driver /usr/lib/apt/methods/https could not be found.\n",
                broken("The method driver /usr/lib/apt/methods/https could not be found."),
            ),
            (139, "", broken("it ended without a word")),
        ] {
            let finished = Finished { code, output: output.to_owned() };
            assert_eq!(refusal(&finished), expected, "{output}");
        }
    }

    /// A proxy that only APT knows of, which is the only way to the mirror.
    #[test]
    fn a_mirror_is_asked_by_the_way_that_apt_is_set_to_use() {
        let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("apt.conf");
        let setting = format!("Acquire::http::Proxy \"http://{}\";\n", proxy.local_addr().unwrap());
        std::fs::write(&config, setting).unwrap();
        let body = "Origin: Debian\nCodename: x\nDate: Sat, 10 Feb 2024 11:07:25 UTC\n";
        let served = std::thread::spawn(move || {
            let (mut client, _) = proxy.accept().unwrap();
            let mut request = [0; 4096];
            let got = client.read(&mut request).unwrap();
            let length = body.len();
            write!(client, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
                .unwrap();
            String::from_utf8_lossy(&request[..got]).into_owned()
        });
        let file = dir.path().join("InRelease");
        let command = command("http://mirror.invalid/debian", "x", None, &file);
        let mut helper = std::process::Command::new(&command.program);
        let output = helper.args(&command.args).env("APT_CONFIG", &config).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let request = served.join().unwrap();
        assert!(request.starts_with("GET http://mirror.invalid/debian/dists/x/InRelease "), "{request}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), body);
    }

    #[test]
    fn reads_what_matters() {
        let text = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: Debian\nLabel: Debian\nSuite: stable\n\
                    Version: 12.5\nCodename: bookworm\nDate: Sat, 10 Feb 2024 11:07:25 UTC\n";
        let release = parse(text).unwrap();
        assert_eq!((release.origin.as_str(), release.codename.as_str()), ("Debian", "bookworm"));
        assert_eq!((release.version.as_str(), release.date), ("12.5", 1_707_563_245));
        for broken in
            ["", "<html>", "Origin: Debian\nCodename: x\n", "Origin: D\nCodename: x\nDate: yesterday\n"]
        {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }
}
