//! For tests: what Packer itself thinks of how a template is written.

use std::path::PathBuf;
use std::process::Command;

/// The Packer on `PATH`.
fn packer() -> PathBuf {
    let found = crate::process::programs("packer").into_iter().next();
    found.expect("packer is not in PATH: run scripts/install.sh test")
}

/// `packer fmt` finds nothing to change.
pub(crate) fn assert_formatted(hcl: &str) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("image.pkr.hcl");
    std::fs::write(&file, hcl).unwrap();
    let output = Command::new(packer())
        .args(["fmt", "-check", "-diff"])
        .arg(&file)
        .env("CHECKPOINT_DISABLE", "1")
        .output()
        .unwrap();
    let diff = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && diff.trim().is_empty(), "{diff}");
}
