//! Finds programs and reads their versions.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::programs;

/// Where the program is, if it is in `PATH` or a folder of system programs.
pub(in crate::backends::qemu) fn find(name: &str) -> Option<PathBuf> {
    programs(name).into_iter().next()
}

/// Where APT keeps its downloader, which is in no `PATH`.
const APT_HELPERS: [&str; 2] = ["/usr/lib/apt/apt-helper", "/usr/libexec/apt/apt-helper"];

/// APT's downloader, by which the release of a suite is looked at as APT would.
pub(in crate::backends::qemu) fn apt_helper() -> Option<PathBuf> {
    let known = APT_HELPERS.iter().map(PathBuf::from).find(|path| path.is_file());
    known.or_else(|| find("apt-helper"))
}

/// What the program says of its version: the first number with a dot in what it prints.
pub(super) fn version(program: &Path, flag: &str) -> Option<String> {
    let output = Command::new(program).arg(flag).stdin(Stdio::null()).output().ok()?;
    parse_version(&format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    ))
}

fn parse_version(text: &str) -> Option<String> {
    text.split(|c: char| c.is_whitespace() || c == '(' || c == ',').find_map(|word| {
        let number: String = word.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        let number = number.trim_end_matches('.');
        (number.contains('.') && !number.starts_with('.')).then(|| number.to_owned())
    })
}

/// Major and minor number of a version.
pub(super) fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions() {
        for (text, expected) in [
            ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright 2003", Some("7.2.22")),
            ("qemu-img version 10.0.2 (Debian 1:10.0.2)", Some("10.0.2")),
            ("mmdebstrap 1.3.5\n", Some("1.3.5")),
            ("mke2fs 1.47.0 (5-Feb-2023)\n\tUsing EXT2FS Library version 1.47.0", Some("1.47.0")),
            ("no number here", None),
            ("", None),
            ("version . 5", None),
        ] {
            assert_eq!(parse_version(text).as_deref(), expected, "{text}");
        }
        assert_eq!(major_minor("7.2.22"), Some((7, 2)));
        assert_eq!(major_minor("10"), None);
    }
}
