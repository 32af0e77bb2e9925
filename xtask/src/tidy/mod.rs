//! Checks that neither the compiler nor clippy makes: which module may know which, who may name a cloud, how long a
//! file may be, what it may be called, and that no registry's host name is compiled in.

mod clouds;
mod edges;
mod length;
mod names;
mod paths;
mod registries;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::repository;

/// One thing out of order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    file: PathBuf,
    line: usize,
    what: String,
}

impl Finding {
    fn new(file: &Path, line: usize, what: impl Into<String>) -> Self {
        Finding { file: file.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.what)
    }
}

/// Checks every file of the project.
///
/// # Errors
/// When anything is out of order: after printing all of it.
pub(crate) fn run() -> Result<()> {
    let findings = findings()?;
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        count => bail!("{count} findings"),
    }
}

fn findings() -> Result<Vec<Finding>> {
    let (hosts, clouds) = (registries::configured_hosts(), clouds::known()?);
    let mut findings = Vec::new();
    for file in repository::files()? {
        // Binary files have no lines to check.
        let Ok(text) = std::fs::read_to_string(repository::root().join(&file)) else { continue };
        findings.extend(registries::check(&file, &text, &hosts));
        if file.extension().is_some_and(|extension| extension == "rs") {
            findings.extend(names::check(&file));
            findings.extend(length::check(&file, &text));
            findings.extend(length::comments(&file, &text));
            let reading = || format!("reading {}", file.display());
            findings.extend(edges::check(&file, &text).with_context(reading)?);
            findings.extend(clouds::check(&file, &text, &clouds).with_context(reading)?);
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_project_is_tidy() {
        let findings = super::findings().unwrap();
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(lines.is_empty(), "{}", lines.join("\n"));
    }
}
