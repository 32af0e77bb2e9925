//! Secrets that are shown in every form by what runs in an image: nobody gets to read them.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use acceptance_tests::{Host, Outcome, Workspace, either_cli, repository};
use anyhow::{Context, Result, ensure};
use serde_json::json;

/// So many bytes of a form in a row are the secret: less than that may be left where a line of base64 ends.
const PIECE: usize = 12;

/// Lines of different lengths, with all that is quoted, escaped or encoded somewhere.
pub(crate) const SECRETS: [&str; 2] = [
    "zq7Kx+/w <9dTf>&\"bV3n\" it's\nG5pL%41\\mR8s hJ2cYe4Wq6uNvZ1oXaPfS0iD7tBkCgEr\nyM3l=Qw9Ue5Ri1T\u{e4}o7P",
    "V8f2#Jk0$Lz{q}6Xs|Rm4~Nd\nTc1?Hb7(w)9Gy*Ea3;Ui5^Po\tKx8\nZl2Mq6",
];

/// Shows a secret in every form.
pub(crate) fn script() -> PathBuf {
    repository().join("acceptance-tests/scenarios/secrets/forms.py")
}

/// All forms of a secret, as the same program tells them that shows them there.
fn forms(secret: &str) -> Result<Vec<String>> {
    let told = Command::new("python3").arg(script()).arg("json").env("SECRET", secret).output()?;
    Ok(serde_json::from_slice(&told.stdout)?)
}

/// What to look for.
pub(crate) struct Pieces(HashSet<[u8; PIECE]>);

impl Pieces {
    pub(crate) fn of(secrets: &[&str]) -> Result<Self> {
        let mut pieces = HashSet::new();
        for secret in secrets {
            for form in forms(secret)? {
                let lines = form.lines().map(|line| line.trim_start_matches("Authorization: Basic "));
                pieces.extend(lines.flat_map(|line| windows(line.as_bytes())));
            }
        }
        ensure!(pieces.len() > 500, "there is nothing to look for");
        Ok(Self(pieces))
    }

    /// Fails where the bytes have a piece of a secret.
    fn ensure_none(&self, place: &str, bytes: &[u8]) -> Result<()> {
        let found = bytes.windows(PIECE).position(|window| self.0.contains(window));
        let around = found.map(|at| {
            let (from, to) = (at.saturating_sub(40), (at + 80).min(bytes.len()));
            String::from_utf8_lossy(&bytes[from..to]).into_owned()
        });
        ensure!(around.is_none(), "{place} tells a secret: {around:?}");
        Ok(())
    }

    /// Fails where a file below the folder has one.
    fn ensure_none_below(&self, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                self.ensure_none_below(&path)?;
            } else if path.is_file() {
                self.ensure_none(&path.display().to_string(), &fs::read(&path)?)?;
            }
        }
        Ok(())
    }
}

fn windows(line: &[u8]) -> Vec<[u8; PIECE]> {
    line.windows(PIECE).filter_map(|window| window.try_into().ok()).collect()
}

/// Makes a workspace tell all that it can, into a file on its host, and keep its temporary files there.
pub(crate) fn trace(host: &Host, workspace: &mut Workspace) -> Result<()> {
    let temporary = host.path().join("tmp");
    fs::create_dir_all(&temporary)?;
    workspace.env("TMPDIR", &temporary).env("TF_LOG", "TRACE").env("TF_LOG_PATH", log(host));
    Ok(())
}

fn log(host: &Host) -> PathBuf {
    host.path().join("trace.log")
}

/// Looks at all that a run said and left on its host.
pub(crate) fn ensure_kept(host: &Host, outcome: &Outcome, pieces: &Pieces) -> Result<()> {
    pieces.ensure_none("standard output", outcome.stdout.as_bytes())?;
    pieces.ensure_none("standard error", outcome.stderr.as_bytes())?;
    for diagnostic in &outcome.diagnostics {
        pieces.ensure_none("a diagnostic", diagnostic.to_string().as_bytes())?;
    }
    ensure!(fs::metadata(log(host))?.len() > 10_000, "there is no trace");
    pieces.ensure_none_below(host.path())
}

#[test]
fn a_build_that_shows_its_secrets_tells_none() -> Result<()> {
    either_cli(|cli| {
        let host = Host::new()?;
        let mut workspace = host.workspace(cli, "secrets")?;
        trace(&host, &mut workspace)?;
        workspace.env("TF_VAR_secrets", json!(SECRETS).to_string());
        let outcome = workspace.apply_with(&[])?;
        let pieces = Pieces::of(&SECRETS)?;
        ensure_kept(&host, &outcome, &pieces)?;
        outcome.fails()?;
        let log = acceptance_tests::account::log(&host);
        ensure!(log.matches("all forms were shown").count() == 2, "{log}");
        ensure!(log.matches("(redacted)").count() > 50, "{log}");
        Ok(())
    })
}
