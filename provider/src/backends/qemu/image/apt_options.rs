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

/// What stands before them.
const FOR: &[&str] = &["Acquire", "http", "https"];

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
    let settings = dump.lines().filter_map(|line| line.trim_end_matches(';').split_once(' '));
    let wanted = settings.map(|(name, value)| (usual(name), value));
    let wanted = wanted.filter(|(name, value)| is_passed(name) && *value != "\"\"");
    wanted.map(|(name, value)| format!("{name} {value}")).collect()
}

/// The name as apt.conf(5) writes it. APT takes it in any case, and prints it as it was written.
fn usual(name: &str) -> String {
    if let Some(passed) = PASSED.iter().find(|passed| passed.eq_ignore_ascii_case(name)) {
        return (*passed).to_owned();
    }
    let usual = |part| {
        let mut words = FOR.iter().chain(SPOKEN);
        words.find(|word| word.eq_ignore_ascii_case(part)).map_or(part, |word| *word)
    };
    name.split("::").map(usual).collect::<Vec<_>>().join("::")
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

    #[test]
    fn a_name_may_be_written_in_any_case() {
        let dump = "Acquire::http::proxy \"http://proxy:3142\";\nacquire::HTTP::PROXY::Internal.example \"DIRECT\";\n\
                    Acquire::https::mirror.example::cainfo \"/etc/ssl/Own.pem\";\n\
                    acquire::check-valid-until \"false\";\nacquire::languages \"none\";\n";
        let expected = [
            "Acquire::http::Proxy \"http://proxy:3142\"",
            "Acquire::http::Proxy::Internal.example \"DIRECT\"",
            "Acquire::https::mirror.example::CaInfo \"/etc/ssl/Own.pem\"",
            "Acquire::Check-Valid-Until \"false\"",
        ];
        assert_eq!(select(dump), expected);
    }
}
