//! What one run of `tofu` or `terraform` said: its exit code, diagnostics and everything else,
//! read from `-json` output.

use std::fmt;
use std::process::Output;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

/// How grave a diagnostic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The operation failed.
    Error,
    /// The operation went on.
    Warning,
}

/// One diagnostic as the user sees it.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The short general line.
    pub summary: String,
    /// What failed and how to mend it.
    pub detail: String,
    /// The resource, for instance `sindri_image.dev`; empty when it is about none.
    pub address: String,
    /// The configuration's line that it points to: the attribute, when the diagnostic has a path.
    pub code: String,
}

impl Diagnostic {
    fn parse(value: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Diagnostic {
            severity: if value["severity"] == "warning" { Severity::Warning } else { Severity::Error },
            summary: text(&value["summary"]),
            detail: text(&value["detail"]),
            address: text(&value["address"]),
            code: text(&value["snippet"]["code"]),
        }
    }

    /// Whether summary or detail contains the text, in any case of letters. Line breaks count as
    /// spaces: hosts wrap long lines.
    pub fn mentions(&self, text: &str) -> bool {
        let said = format!("{} {}", self.summary, self.detail).to_lowercase();
        let flat = said.split_whitespace().collect::<Vec<_>>().join(" ");
        flat.contains(&text.to_lowercase())
    }

    /// Whether it is about this nested attribute. Hosts show the line of a top-level one; deeper in, the text says where.
    pub fn is_about(&self, nested: &str) -> bool {
        self.detail.trim_end().ends_with(&format!("\n\nAttribute: {nested}"))
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}: {} [{}] at `{}`\n  {}",
            self.severity, self.summary, self.address, self.code, self.detail
        )
    }
}

/// A finished run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The command as given, for messages.
    pub command: String,
    /// Whether it ended with exit code 0.
    pub success: bool,
    /// Every diagnostic, in order.
    pub diagnostics: Vec<Diagnostic>,
    /// Standard output as it came.
    pub stdout: String,
    /// Standard error as it came.
    pub stderr: String,
    /// From start to end.
    pub elapsed: Duration,
}

impl Outcome {
    pub(crate) fn parse(command: String, output: &Output, elapsed: Duration) -> Self {
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        // `validate -json` prints one document; the other commands print one object per line.
        let diagnostics = match serde_json::from_str::<Value>(&stdout) {
            Ok(document) if document["diagnostics"].is_array() => {
                document["diagnostics"].as_array().into_iter().flatten().map(Diagnostic::parse).collect()
            }
            _ => stdout
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .filter(|message| message["type"] == "diagnostic")
                .map(|message| Diagnostic::parse(&message["diagnostic"]))
                .collect(),
        };
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Outcome { command, success: output.status.success(), diagnostics, stdout, stderr, elapsed }
    }

    /// The outcome itself when the run succeeded.
    ///
    /// # Errors
    /// When it failed: with everything it said.
    pub fn succeeds(self) -> Result<Self> {
        ensure!(self.success, "{self}");
        Ok(self)
    }

    /// The error diagnostics of a run that is expected to fail.
    ///
    /// # Errors
    /// When it succeeded, or failed without a diagnostic.
    pub fn fails(self) -> Result<Vec<Diagnostic>> {
        ensure!(!self.success, "{} was expected to fail and succeeded", self.command);
        let errors = self.errors();
        ensure!(!errors.is_empty(), "failed without a diagnostic: {self}");
        Ok(errors)
    }

    /// Only the errors.
    pub fn errors(&self) -> Vec<Diagnostic> {
        self.diagnostics.iter().filter(|one| one.severity == Severity::Error).cloned().collect()
    }

    /// Only the warnings, without the hosts' own about development overrides.
    pub fn warnings(&self) -> Vec<Diagnostic> {
        let of_host = |one: &Diagnostic| one.mentions("development override");
        let warning = |one: &&Diagnostic| one.severity == Severity::Warning && !of_host(one);
        self.diagnostics.iter().filter(warning).cloned().collect()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} (exit {})", self.command, if self.success { "0" } else { "not 0" })?;
        for diagnostic in &self.diagnostics {
            writeln!(f, "{diagnostic}")?;
        }
        if self.diagnostics.is_empty() {
            writeln!(f, "{}", self.stdout)?;
        }
        write!(f, "{}", self.stderr)
    }
}
