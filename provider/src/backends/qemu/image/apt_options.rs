//! Settings of the host's APT that concern how mirrors are reached: a proxy, retries, whether dates are checked.

use tokio_util::sync::CancellationToken;

use super::{BuildError, Host};
use crate::process::{BuildLog, Command, Limits, ProcessError};

/// What of the host's settings holds for a bootstrap too. No credentials: those are in `auth.conf`, not here.
const PASSED: &[&str] = &[
    "Acquire::http::Proxy",
    "Acquire::https::Proxy",
    "Acquire::Retries",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
];

/// The settings, as mmdebstrap's `--aptopt` takes them. None where the host has no APT.
///
/// # Errors
/// When `apt-config` does not answer.
pub(super) async fn read(
    host: &Host,
    log: &BuildLog,
    cancel: &CancellationToken,
) -> Result<Vec<String>, BuildError> {
    let command = Command::new("apt-config").args(["dump", "Acquire"]);
    match host.runner.check(&command, None, &Limits::cancelled_by(cancel)).await {
        Ok(dump) => Ok(select(&dump)),
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
        let host_proxy = name.strip_prefix("Acquire::http::Proxy::").is_some();
        (PASSED.contains(&name) || host_proxy) && !line.contains("\"\"") && !line.contains('@')
    };
    dump.lines().filter(wanted).map(|line| line.trim_end_matches(';').to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_about_reaching_mirrors_pass() {
        let dump = "Acquire \"\";\nAcquire::cdrom \"\";\nAcquire::http::Proxy \"http://proxy:3142\";\n\
                    Acquire::http::Proxy::internal.example \"DIRECT\";\nAcquire::https::Proxy \"http://u:p@proxy\";\n\
                    Acquire::Check-Valid-Until \"false\";\nAcquire::Languages \"none\";\n";
        let expected = [
            "Acquire::http::Proxy \"http://proxy:3142\"",
            "Acquire::http::Proxy::internal.example \"DIRECT\"",
            "Acquire::Check-Valid-Until \"false\"",
        ];
        assert_eq!(select(dump), expected);
    }
}
