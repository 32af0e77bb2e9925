//! A disk file without a system, and what others say of one: qemu-img of its format, sha256sum of its content.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// A disk with nothing but the mark of one that can be booted, in this folder. A guest's firmware looks on it for a system for
/// good, and hardly works meanwhile; an image of it costs a tenth of one with a system.
///
/// # Errors
/// When it cannot be written.
pub fn blank(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("blank.raw");
    if !path.exists() {
        let mut disk = vec![0; 1 << 20];
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        fs::write(&path, disk)?;
    }
    Ok(path)
}

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
