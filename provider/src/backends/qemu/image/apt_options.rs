//! Settings of the host's APT that concern how mirrors are reached: a proxy, certificates, retries, whether dates are
//! checked.

use super::apt_login::Login;
use super::{BuildError, Here};
use crate::process::{Command, Limits, ProcessError};

/// What of the host's settings holds for a bootstrap too.
const PASSED: &[&str] = &["Acquire::Retries", "Acquire::Check-Valid-Until", "Acquire::Check-Date"];

/// The same of how a mirror is spoken to, for all mirrors or for one: `Acquire::https::CaInfo`,
/// `Acquire::https::mirror.example::CaInfo`. Files of certificates are the host's, and `bootstrap-customize.sh` takes
/// their settings out of the tree.
const SPOKEN: &[&str] = &["Proxy", "CaInfo", "CaPath", "Verify-Peer", "Verify-Host"];

/// The settings, as mmdebstrap's `--aptopt` takes them. None where the host has no APT. Proxies that ask for a login go to
/// `login`: in an argument everybody could read it.
///
/// # Errors
/// When `apt-config` does not answer.
pub(super) async fn read(here: Here<'_>, login: &mut Login) -> Result<Vec<String>, BuildError> {
    let Here { host, log, cancel } = here;
    let command = Command::new("apt-config").args(["dump", "Acquire"]);
    match host.runner.check(&command, None, &Limits::cancelled_by(cancel)).await {
        Ok(dump) => {
            let (private, plain): (Vec<_>, Vec<_>) =
                select(&dump).into_iter().partition(|line| line.contains('@'));
            for line in private.iter().filter(|line| !login.take_proxy(line)) {
                let name = line.split(' ').next().unwrap_or_default();
                log.line(&format!("The host's {name} is not used: it holds a user or a password"));
            }
            Ok(plain)
        }
        Err(ProcessError::Missing { .. }) => Ok(Vec::new()),
        Err(ProcessError::Cancelled { .. }) => Err(BuildError::Cancelled),
        Err(error) => {
            log.line(&format!("The host's APT settings are not used: {error}"));
            Ok(Vec::new())
        }
    }
}

fn select(dump: &str) -> Vec<String> {
    let wanted = |line: &&str| {
        let name = line.split(' ').next().unwrap_or_default();
        is_passed(name) && !line.contains("\"\"")
    };
    dump.lines().filter(wanted).map(|line| line.trim_end_matches(';').to_owned()).collect()
}

fn is_passed(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("Acquire::http::").or_else(|| name.strip_prefix("Acquire::https::"))
    else {
        return PASSED.contains(&name);
    };
    // Of a single mirror a proxy stands behind its kind, everything else before it.
    rest.starts_with("Proxy::") || SPOKEN.contains(&rest.rsplit("::").next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_about_reaching_mirrors_pass() {
        let dump = "Acquire \"\";\nAcquire::cdrom \"\";\nAcquire::http::Proxy \"http://proxy:3142\";\n\
                    Acquire::http::Proxy::internal.example \"DIRECT\";\nAcquire::https::Proxy \"\";\n\
                    Acquire::https::CaInfo \"/etc/ssl/own.pem\";\n\
                    Acquire::https::mirror.example::CaInfo \"/etc/ssl/other.pem\";\n\
                    Acquire::https::mirror.example::SslKey \"/etc/ssl/key.pem\";\n\
                    Acquire::Check-Valid-Until \"false\";\nAcquire::Languages \"none\";\n";
        let expected = [
            "Acquire::http::Proxy \"http://proxy:3142\"",
            "Acquire::http::Proxy::internal.example \"DIRECT\"",
            "Acquire::https::CaInfo \"/etc/ssl/own.pem\"",
            "Acquire::https::mirror.example::CaInfo \"/etc/ssl/other.pem\"",
            "Acquire::Check-Valid-Until \"false\"",
        ];
        assert_eq!(select(dump), expected);
    }
}
