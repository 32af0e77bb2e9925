//! Where the checkout is, and the files in it that the project owns.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The checkout's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

/// Every file that git knows or would take, relative to the root: build output and the like is ignored.
pub(crate) fn files() -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root())
        .output()
        .context("starting git ls-files")?;
    ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).context("a file name that is not UTF-8")?;
    let files = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
    // A file deleted but not yet staged is still listed.
    Ok(files.filter(|file| root().join(file).is_file()).collect())
}

/// The code name of this machine's distribution, the suite that its own package sources have.
pub(crate) fn host_suite() -> Result<String> {
    let release = std::fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    let name = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(name.context("/etc/os-release names no VERSION_CODENAME")?.trim_matches('"').to_owned())
}

/// A development tool: from PATH, or built once.
pub(crate) fn tool(name: &str) -> Result<PathBuf> {
    let output = Command::new(root().join("scripts/tools.sh"))
        .arg(name)
        .stderr(Stdio::inherit())
        .output()
        .context("starting scripts/tools.sh")?;
    ensure!(output.status.success(), "scripts/tools.sh {name} failed");
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}
