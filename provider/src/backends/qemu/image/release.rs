//! A mirror's release file: whether it has the suite, whose it is, and from when.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::BuildError;
use crate::domain::backend::causes;

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
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks the mirror for the suite's release file. APT checks its signature later; here it only serves to tell a
/// wrong suite from a mirror that cannot be reached. None when the mirror has no such suite.
///
/// # Errors
/// When the mirror does not answer or answers with something else.
pub(super) async fn fetch(
    uri: &str,
    suite: &str,
    cancel: &CancellationToken,
) -> Result<Option<Release>, BuildError> {
    let url = format!("{uri}/dists/{suite}/InRelease");
    let broken = |reason: String| BuildError::Mirror { url: uri.to_owned(), reason };
    let client =
        reqwest::Client::builder().timeout(PATIENCE).connect_timeout(Duration::from_secs(10)).build();
    let client = client.map_err(|error| broken(causes(&error)))?;
    let asked = async {
        let response = client.get(&url).send().await.map_err(|error| broken(causes(&error)))?;
        let status = response.status();
        if matches!(status.as_u16(), 404 | 410) {
            return Ok(None);
        }
        if !status.is_success() {
            return Err(broken(format!("it answered {status} for {url}")));
        }
        response.text().await.map(Some).map_err(|error| broken(causes(&error)))
    };
    let text = tokio::select! {
        () = cancel.cancelled() => return Err(BuildError::Cancelled),
        text = asked => text?,
    };
    text.map(|text| parse(&text).ok_or_else(|| broken(format!("{url} is not a release file")))).transpose()
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
    use super::*;

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
