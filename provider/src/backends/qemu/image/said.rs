//! What programs say, and what it means for whoever wants an image.

use super::BuildError;
use crate::process::ProcessError;

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

/// The error that output about namespaces amounts to, if that is what stopped the program.
pub(super) fn refused(output: &str) -> Option<BuildError> {
    let find =
        |needle: &str| output.lines().find(|line| line.contains(needle)).map(|line| line.trim().to_owned());
    let ids = "Give your user a range of ids: `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 \
               $USER`, or run as root";
    let cases: [(&str, &'static str); 6] = [
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
            crate::process::enter::REFUSED,
            "In a container, give it the right to make user namespaces and mounts (`--privileged`, or a seccomp and \
             AppArmor profile that allows them), or build on the host",
        ),
    ];
    cases.into_iter().find_map(|(needle, hint)| {
        let reason = find(needle)?.replace(crate::process::enter::REFUSED, "");
        Some(BuildError::Namespaces { reason, hint })
    })
}
