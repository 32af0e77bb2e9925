//! A build's log: a file that a person can follow while the build runs.
//!
//! Hosts offer no progress channel for resources, so this file, `TF_LOG` and the tail in a failure's
//! diagnostic are where progress shows.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::{Redactor, Secret};

/// How many of the last lines are kept in memory for a diagnostic.
const TAIL: usize = 40;

/// A build's log. Every line is redacted before it is written. Clones share the file.
#[derive(Clone, Debug)]
pub struct BuildLog {
    path: PathBuf,
    redactor: Arc<Redactor>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    tail: VecDeque<String>,
    start: Instant,
}

impl BuildLog {
    /// Creates `dir/<name>-<id>.log` (0600) and points `dir/latest-<name>.log` at it. Passwords of this environment's proxies
    /// are secrets, too.
    ///
    /// # Errors
    /// When the folder or the file cannot be made.
    pub fn create(dir: &Path, name: &str, id: &str, redactor: Redactor) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let path = dir.join(format!("{name}-{id}.log"));
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        let latest = dir.join(format!("latest-{name}.log"));
        let fresh = dir.join(format!(".latest-{name}-{id}"));
        std::os::unix::fs::symlink(path.file_name().unwrap_or_default(), &fresh)?;
        fs::rename(fresh, latest)?;
        let inner = Inner { file, tail: VecDeque::new(), start: Instant::now() };
        Ok(Self { path, redactor: Arc::new(redactor.and_of_proxies()), inner: Arc::new(Mutex::new(inner)) })
    }

    /// The same log for whoever can come to know more secrets.
    #[must_use]
    pub fn hiding(&self, secrets: &[Secret]) -> Self {
        Self { redactor: Arc::new(Redactor::clone(&self.redactor).and(secrets)), ..self.clone() }
    }

    /// Where the log is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says that a step begins: a line with the time since the build's start, here and in `TF_LOG`.
    pub fn step(&self, what: &str) {
        let elapsed = self.lock().start.elapsed().as_secs_f64();
        let what = self.redactor.redact(what);
        tracing::info!(step = what, "build step");
        self.line(&format!("[{elapsed:7.1}s] ==> {what}"));
    }

    /// Writes one line. A log that cannot be written does not fail a build: the lines stay in the tail.
    pub fn line(&self, line: &str) {
        let line = self.redactor.redact(line);
        tracing::debug!(line, "build output");
        let mut inner = self.lock();
        let _ = writeln!(inner.file, "{line}");
        if inner.tail.len() == TAIL {
            inner.tail.pop_front();
        }
        inner.tail.push_back(line);
    }

    /// The last lines, at most `count`, for a diagnostic.
    pub fn tail(&self, count: usize) -> String {
        let inner = self.lock();
        let skip = inner.tail.len().saturating_sub(count);
        inner.tail.iter().skip(skip).map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// The text without the build's secrets.
    pub fn redact(&self, text: &str) -> String {
        self.redactor.redact(text)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keeps_a_redacted_file_and_its_tail() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        let log = BuildLog::create(&logs, "dev", "1", Redactor::new([&Secret::new("hunter22")])).unwrap();
        log.step("Provisioning");
        for n in 0..50 {
            log.line(&format!("line {n} hunter22"));
        }
        let text = fs::read_to_string(logs.join("latest-dev.log")).unwrap();
        assert!(text.starts_with("[    0.0s] ==> Provisioning\nline 0 (redacted)\n"), "{text}");
        assert_eq!(log.tail(2), "line 48 (redacted)\nline 49 (redacted)");
        log.hiding(&[Secret::new("swordfish")]).line("swordfish and hunter22");
        assert_eq!(log.tail(1), "(redacted) and (redacted)");
        assert_eq!(fs::metadata(log.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&logs).unwrap().permissions().mode() & 0o777, 0o700);

        let second = BuildLog::create(&logs, "dev", "2", Redactor::default()).unwrap();
        second.line("second build");
        assert_eq!(fs::read_to_string(logs.join("latest-dev.log")).unwrap(), "second build\n");
    }
}
