//! What the host says through the environment, and the one line that answers it.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::json;

use super::socket::SocketOptions;

const COOKIE_NAME: &str = "TF_PLUGIN_MAGIC_COOKIE";
/// Fixed by the hosts; it tells them apart from people, and is no secret.
const COOKIE: &str = "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2";
/// The version of the handshake, and that of the services.
const CORE_VERSION: u32 = 1;
const PROTOCOL_VERSION: u32 = 6;
/// What an address without a registry means to OpenTofu and to Terraform.
const REGISTRIES: [&str; 2] = ["registry.opentofu.org", "registry.terraform.io"];

/// What the host asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Environment {
    /// The host's certificate in PEM; without it, plaintext.
    pub(super) client_certificate: Option<String>,
    /// Where the socket goes.
    pub(super) socket: SocketOptions,
    /// Whether the host wants to know if we multiplex.
    pub(super) multiplex_asked: bool,
}

/// Why there is no host to talk to.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error(
        "this is a provider for OpenTofu and Terraform, which start it themselves. It is not meant to be run \
         by hand. Write a `required_providers` block with the provider's address and run `tofu init`. \
         See --help for what the binary can do by hand"
    )]
    NotStartedByHost,
    #[error(
        "the host offers the plugin protocol versions {0}, but this provider speaks version {PROTOCOL_VERSION}: \
         use OpenTofu 1.6 or Terraform 1.0, or newer"
    )]
    NoCommonVersion(String),
}

impl Environment {
    /// Reads what the host said. In debug mode no host has said anything yet.
    pub(super) fn read(debug: bool, var: impl Fn(&str) -> Option<String>) -> Result<Self, HandshakeError> {
        let var = |name: &str| var(name).filter(|value| !value.is_empty());
        if !debug && var(COOKIE_NAME).as_deref() != Some(COOKIE) {
            return Err(HandshakeError::NotStartedByHost);
        }
        if let Some(versions) = var("PLUGIN_PROTOCOL_VERSIONS").filter(|_| !debug) {
            let ours = PROTOCOL_VERSION.to_string();
            if !versions.split(',').any(|version| version.trim() == ours) {
                return Err(HandshakeError::NoCommonVersion(versions));
            }
        }
        Ok(Self {
            client_certificate: var("PLUGIN_CLIENT_CERT").filter(|_| !debug),
            socket: SocketOptions {
                dir: var("PLUGIN_UNIX_SOCKET_DIR").map(PathBuf::from),
                group: var("PLUGIN_UNIX_SOCKET_GROUP"),
            },
            multiplex_asked: var("PLUGIN_MULTIPLEX_GRPC").is_some(),
        })
    }
}

/// The line that tells the host where to connect and which certificate (DER) to expect.
pub(super) fn line(socket: &Path, certificate: Option<&[u8]>, multiplex_asked: bool) -> String {
    let certificate = certificate.map(|der| STANDARD_NO_PAD.encode(der)).unwrap_or_default();
    let multiplex = if multiplex_asked { "|false" } else { "" };
    format!("{CORE_VERSION}|{PROTOCOL_VERSION}|unix|{}|grpc|{certificate}{multiplex}", socket.display())
}

/// What a person does to have a host attach to this process.
pub(super) fn reattach_text(address: &str, pid: u32, socket: &Path) -> String {
    let provider = json!({
        "Protocol": "grpc",
        "ProtocolVersion": PROTOCOL_VERSION,
        "Pid": pid,
        "Test": true,
        "Addr": { "Network": "unix", "String": socket.display().to_string() },
    });
    let reattach: serde_json::Map<_, _> =
        REGISTRIES.iter().map(|registry| (format!("{registry}/{address}"), provider.clone())).collect();
    let reattach = serde_json::Value::Object(reattach);
    format!(
        "The provider waits for a host. In another terminal, set\n\n\tTF_REATTACH_PROVIDERS='{reattach}'\n\n\
         and run tofu or terraform there. Ctrl-C ends the provider."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Environment, HandshakeError> {
        let var =
            |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Environment::read(false, var)
    }

    #[test]
    fn without_the_cookie_there_is_no_host() {
        for vars in [&[][..], &[(COOKIE_NAME, "")], &[(COOKIE_NAME, "other")]] {
            assert_eq!(read(vars), Err(HandshakeError::NotStartedByHost));
        }
        assert!(read(&[(COOKIE_NAME, COOKIE)]).is_ok());
    }

    #[test]
    fn the_host_must_speak_version_6() {
        let with = |versions| read(&[(COOKIE_NAME, COOKIE), ("PLUGIN_PROTOCOL_VERSIONS", versions)]);
        assert!(with("5,6").is_ok());
        assert!(with("6").is_ok());
        assert_eq!(with("5"), Err(HandshakeError::NoCommonVersion("5".to_owned())));
        assert_eq!(with("56"), Err(HandshakeError::NoCommonVersion("56".to_owned())));
    }

    #[test]
    fn reads_what_the_host_asks_for() {
        let environment = read(&[
            (COOKIE_NAME, COOKIE),
            ("PLUGIN_CLIENT_CERT", "pem"),
            ("PLUGIN_UNIX_SOCKET_DIR", "/run/x"),
            ("PLUGIN_UNIX_SOCKET_GROUP", "staff"),
            ("PLUGIN_MULTIPLEX_GRPC", "true"),
        ]);
        let socket = SocketOptions { dir: Some("/run/x".into()), group: Some("staff".to_owned()) };
        let expected =
            Environment { client_certificate: Some("pem".to_owned()), socket, multiplex_asked: true };
        assert_eq!(environment, Ok(expected));
    }

    #[test]
    fn the_line_is_what_hosts_split_at_bars() {
        let socket = Path::new("/tmp/s");
        assert_eq!(line(socket, Some(&[255, 1]), false), "1|6|unix|/tmp/s|grpc|/wE");
        assert_eq!(line(socket, Some(&[255, 1]), true), "1|6|unix|/tmp/s|grpc|/wE|false");
        assert_eq!(line(socket, None, false), "1|6|unix|/tmp/s|grpc|");
    }

    #[test]
    fn reattaching_takes_one_variable() {
        let text = reattach_text("sindri/sindri", 7, Path::new("/tmp/s"));
        let json = text.split('\'').nth(1).unwrap();
        let parsed: serde_json::Value = serde_json::from_str(json).unwrap();
        let expected = serde_json::json!({
            "Protocol": "grpc", "ProtocolVersion": 6, "Pid": 7, "Test": true,
            "Addr": {"Network": "unix", "String": "/tmp/s"}});
        let both = serde_json::json!({
            "registry.opentofu.org/sindri/sindri": expected, "registry.terraform.io/sindri/sindri": expected});
        assert_eq!(parsed, both);
    }
}
