//! What others say of a disk file: qemu-img of its format, sha256sum of its content.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// What `qemu-img info` says.
///
/// # Errors
/// When it is no disk that qemu-img knows.
pub fn qemu_img_info(disk: &Path) -> Result<Value> {
    Ok(serde_json::from_str(&output("qemu-img", &["info", "--output=json"], disk)?)?)
}

/// The file's SHA-256 in lower-case hex.
///
/// # Errors
/// When it cannot be read.
pub fn sha256(file: &Path) -> Result<String> {
    let line = output("sha256sum", &[], file)?;
    Ok(line.split_whitespace().next().context("sha256sum printed nothing")?.to_owned())
}

fn output(program: &str, arguments: &[&str], file: &Path) -> Result<String> {
    let run = Command::new(program).args(arguments).arg(file).output();
    let output = run.with_context(|| format!("starting {program}"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
