//! What programs and guests say, and what it means for whoever wants an image.

use std::path::Path;

use super::BuildError;
use crate::backends::qemu::guest::console;
use crate::process::{BuildLog, ProcessError, enter, tail};

/// How many lines of a guest's console come into the log, whose end is told together with them.
const CONSOLE: usize = 15;

/// Where a program that is missing is to be had.
pub(super) fn package(error: &ProcessError) -> String {
    let ProcessError::Missing { program } = error else { return String::new() };
    let package = match program.as_str() {
        "mmdebstrap" => "mmdebstrap",
        "apt-helper" => "apt",
        "mke2fs" | "e2fsck" | "debugfs" => "e2fsprogs",
        "qemu-img" => "qemu-utils",
        "newuidmap" | "newgidmap" => "uidmap",
        _ => return format!(": {program} is not installed"),
    };
    format!(": {program} is not installed; on Debian and Ubuntu it is in the package {package}")
}

/// Of a guest that was given up before it was up, what it printed last comes into the log.
pub(super) fn show_console(log: &BuildLog, dir: &Path, error: &BuildError) {
    if matches!(error, BuildError::Cancelled) {
        let console = log.redact(&console::tail(dir));
        let told = if console.is_empty() { "it had printed nothing" } else { "the end of its console:" };
        log.step(&format!("The guest was not up yet; {told}"));
        tail::last(console.lines(), CONSOLE).lines().for_each(|line| log.line(line));
    }
}

/// The error that output about namespaces amounts to, if that is what stopped the program.
pub(super) fn refused(output: &str) -> Option<BuildError> {
    let find =
        |needle: &str| output.lines().find(|line| line.contains(needle)).map(|line| line.trim().to_owned());
    let ids = "Give your user a range of ids: `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 \
               $USER`, or run as root";
    let cases: [(&str, &'static str); 8] = [
        ("/etc/subuid", ids),
        ("/etc/subgid", ids),
        ("newuidmap", "Install the package uidmap"),
        ("newgidmap", "Install the package uidmap"),
        (
            "unshare() failed",
            "This host forbids user namespaces to ordinary users (sysctl kernel.unprivileged_userns_clone or \
             user.max_user_namespaces, AppArmor, or an unprivileged container): allow them, or run as root",
        ),
        (
            enter::ROOT,
            "This host forbids pivot_root (a seccomp profile), or its root is an initramfs, which cannot be left by it: build \
             elsewhere, or with `boot = true`, whose steps need no tree",
        ),
        (
            enter::OVERLAY,
            "The cache folder has to lie on a file system that takes an overlay's files, as ext4 and xfs do, and not on an \
             overlay or a network's: set XDG_CACHE_HOME, in a container to a folder of a volume",
        ),
        (
            enter::REFUSED,
            "In a container, give it the right to make user namespaces and mounts (`--privileged`, or a seccomp and \
             AppArmor profile that allows them), or build on the host",
        ),
    ];
    cases.into_iter().find_map(|(needle, hint)| {
        let reason = find(needle)?.replace(enter::REFUSED, "");
        Some(BuildError::Namespaces { reason, hint })
    })
}
