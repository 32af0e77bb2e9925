//! Whether a new image would start from a newer release of its distribution than one that is there did.

use std::time::Duration;

use chrono::NaiveDate;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::area::Area;
use super::{BuildError, Here, Host, layer};
use crate::backends::qemu::{Arch, Base, Bootstrap, QemuImageSpec};
use crate::process::{BuildLog, Redactor};

/// How long a plan waits for a mirror's answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// What new images would start from, each looked for once: none where nobody tells.
#[derive(Debug, Default)]
pub struct Bases(Mutex<Vec<(Bootstrap, Arch, Option<String>)>>);

impl Bases {
    /// What an image would start from now, when that is newer than `base`. None where it is always the same: a disk image by its
    /// content, a dated archive. Where it cannot be looked for there is none either: a plan does without.
    pub(in crate::backends::qemu) async fn newer(
        &self,
        host: &Host,
        spec: &QemuImageSpec,
        base: &str,
    ) -> Option<String> {
        let Base::Bootstrap(bootstrap) = &spec.base else { return None };
        if bootstrap.snapshot.is_some() {
            return None;
        }
        // Held while asking, so that others wait for the first one instead of asking too.
        let mut known = self.0.lock().await;
        let next = match known.iter().find(|(of, arch, _)| of == bootstrap && *arch == spec.arch) {
            Some((_, _, next)) => next.clone(),
            None => {
                let next = next(host, bootstrap, spec.arch).await;
                known.push((bootstrap.clone(), spec.arch, next.clone()));
                next
            }
        };
        next.filter(|next| is_later(next, base))
    }
}

async fn next(host: &Host, spec: &Bootstrap, arch: Arch) -> Option<String> {
    let why = match tokio::time::timeout(PATIENCE, look(host, spec, arch)).await {
        Ok(Ok(next)) => return Some(next),
        Ok(Err(error)) => crate::domain::causes(&error),
        Err(_) => format!("no answer within {PATIENCE:?}"),
    };
    tracing::debug!(suite = spec.suite, why, "nobody knows whether there is a newer base");
    None
}

async fn look(host: &Host, spec: &Bootstrap, arch: Arch) -> Result<String, BuildError> {
    let folder = tempfile::tempdir().map_err(BuildError::io("create", &std::env::temp_dir()))?;
    let log = BuildLog::create(folder.path(), "newer-base", "1", Redactor::default());
    let log = log.map_err(BuildError::io("create", folder.path()))?;
    let here = Here { host, log: &log, cancel: &CancellationToken::new() };
    layer::next_base(here, &Area::of(&host.cache_dir), spec, arch).await
}

/// Whether a release is later than the one that an image was built from. The last word of either is its date.
fn is_later(next: &str, base: &str) -> bool {
    let date = |base: &str| base.rsplit(' ').next()?.parse::<NaiveDate>().ok();
    date(next).zip(date(base)).is_some_and(|(next, base)| next > base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_release_is_told_by_its_date() {
        let base = "Debian bookworm 12.5 amd64 2024-02-10";
        for (next, later) in [
            ("Debian bookworm 12.6 amd64 2024-06-29", true),
            ("Debian trixie 13.0 amd64 2025-08-09", true),
            (base, false),
            ("Debian bookworm 12.4 amd64 2023-12-10", false),
            ("Debian bookworm 12.6 amd64", false),
            ("", false),
        ] {
            assert_eq!(is_later(next, base), later, "{next}");
        }
        assert!(!is_later(base, "a disk image"));
    }
}
