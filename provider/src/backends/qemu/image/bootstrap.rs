//! A distribution's packages into a file tree: which mirrors, which mmdebstrap command, what its failures mean.
//!
//! Knows nothing of caching nor of disks.

use std::path::PathBuf;

use super::BuildError;
use super::apt_login::Login;
use super::apt_sources::{self, Line};
use super::distribution::{Distribution, Platform};
use super::said::refused;
use crate::backends::qemu::{Arch, Bootstrap};
use crate::process::enter::{AREA, Entry};

/// What the name of a suite's security updates ends with.
pub(super) const SECURITY: &str = "-security";

/// Everything that mmdebstrap has to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// The distribution.
    pub(super) distribution: Distribution,
    /// The suite.
    pub(super) suite: String,
    /// Where packages come from; the suite itself first.
    pub(super) lines: Vec<Line>,
    /// Whether they are of a moment that has passed, and so has the time for which their signatures hold.
    pub(super) dated: bool,
    /// Files with the keys that sign them.
    pub(super) keyrings: Vec<PathBuf>,
    /// What is installed.
    pub(super) packages: Vec<String>,
    /// For which processor.
    pub(super) arch: Arch,
    /// Settings of the host's APT that concern how mirrors are reached.
    pub(super) apt_options: Vec<String>,
    /// How it logs in there.
    pub(super) login: Login,
}

/// Values for the scripts that run on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The root partition's id.
    pub(super) root_partuuid: uuid::Uuid,
    /// The EFI system partition's id.
    pub(super) esp_partuuid: uuid::Uuid,
    /// Seconds since 1970 that files made by the bootstrap are dated to at the latest.
    pub(super) epoch: i64,
}

/// Lines for mirrors that the user named. `updates` is whether the first has the suite's updates.
pub(super) fn mirror_lines(
    spec: &Bootstrap,
    distribution: Distribution,
    mirror: &str,
    updates: bool,
) -> Vec<Line> {
    let archive = |mirror: &str| {
        let uri = mirror.trim_end_matches('/');
        spec.snapshot.as_ref().map_or(uri.to_owned(), |snapshot| format!("{uri}/{snapshot}"))
    };
    let line = |mirror: &str, kind: &str| Line {
        uri: archive(mirror),
        suite: format!("{}{kind}", spec.suite),
        components: distribution.components().to_owned(),
    };
    let mut lines = vec![line(mirror, "")];
    lines.extend(updates.then(|| line(mirror, "-updates")));
    // Ubuntu has one archive for all.
    let beside = (updates && distribution == Distribution::Ubuntu).then_some(mirror);
    lines.extend(spec.security_mirror.as_deref().or(beside).map(|mirror| line(mirror, SECURITY)));
    lines
}

/// Lines and keyrings from the host's own sources.
///
/// # Errors
/// When they name no mirror of the distribution.
pub(super) fn host_lines(
    sources: &[apt_sources::Source],
    distribution: Distribution,
    suite: &str,
) -> Result<(Vec<Line>, Vec<PathBuf>), BuildError> {
    let (lines, keyrings) = apt_sources::lines_for(sources, distribution, suite);
    if lines.is_empty() {
        return Err(BuildError::NoMirror { distribution: distribution.name() });
    }
    Ok((lines, keyrings))
}

/// The command that makes `root` in the folder of the layer in the making, which is where it is entered.
pub(super) fn command(plan: &Plan) -> Entry {
    let platform = Platform::of(plan.arch);
    let mut args = vec![
        "--mode=unshare".to_owned(),
        "--variant=minbase".to_owned(),
        "--format=directory".to_owned(),
        format!("--architectures={}", platform.deb_arch),
        format!("--include={}", plan.packages.join(",")),
        "--dpkgopt=force-unsafe-io".to_owned(),
        // A step may install packages without asking for the lists first; clean-up removes them.
        "--skip=cleanup/apt/lists".to_owned(),
        format!("--essential-hook={AREA}/essential.sh \"$1\""),
        format!("--customize-hook={AREA}/customize.sh \"$1\""),
    ];
    args.extend(plan.keyrings.iter().map(|file| format!("--keyring={}", file.display())));
    args.extend(plan.apt_options.iter().map(|option| format!("--aptopt={option}")));
    args.extend(plan.login.arguments(AREA));
    args.extend([plan.suite.clone(), format!("{AREA}/root")]);
    // In the image too, whose sources these become.
    let deb = if plan.dated { "deb [check-valid-until=no]" } else { "deb" };
    args.extend(
        plan.lines.iter().map(|line| format!("{deb} {} {} {}", line.uri, line.suite, line.components)),
    );
    Entry::new("mmdebstrap").args(args)
}

/// What the scripts need to know, as variables.
pub(super) fn environment(plan: &Plan, place: &Place) -> Vec<(&'static str, String)> {
    let platform = Platform::of(plan.arch);
    vec![
        ("SINDRI_CMDLINE", platform.cmdline.to_owned()),
        ("SINDRI_EFI_LOADER", platform.efi_loader.to_owned()),
        ("SINDRI_EFI_NAME", platform.efi_name.to_owned()),
        ("SINDRI_ESP_PARTUUID", place.esp_partuuid.to_string()),
        ("SINDRI_ROOT_PARTUUID", place.root_partuuid.to_string()),
        ("SOURCE_DATE_EPOCH", place.epoch.to_string()),
    ]
}

/// What mmdebstrap's last lines amount to.
pub(super) fn explain(plan: &Plan, tail: &str) -> BuildError {
    if crate::process::says_no_space(tail) {
        return BuildError::NoSpace { operation: format!("bootstrap {}", plan.suite) };
    }
    if let Some(error) = refused(tail) {
        return error;
    }
    let packages: Vec<String> = tail
        .lines()
        .filter_map(|line| {
            let name = line.strip_prefix("E: Unable to locate package ").or_else(|| {
                line.strip_prefix("E: Package '")?.strip_suffix("' has no installation candidate")
            })?;
            Some(name.trim().to_owned())
        })
        .collect();
    if !packages.is_empty() {
        return BuildError::UnknownPackages { packages };
    }
    let unreachable = [
        "Could not resolve",
        "Could not connect",
        "Cannot initiate the connection",
        "Temporary failure resolving",
    ];
    if let Some(line) = tail.lines().find(|line| unreachable.iter().any(|text| line.contains(text))) {
        let url = plan.lines.first().map_or_else(String::new, |line| line.uri.clone());
        return BuildError::Mirror { url, reason: line.trim().to_owned() };
    }
    BuildError::Bootstrap { suite: plan.suite.clone(), tail: tail.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bootstrap(suite: &str, security: Option<&str>, snapshot: Option<&str>) -> Bootstrap {
        Bootstrap {
            suite: suite.into(),
            mirror: None,
            security_mirror: security.map(str::to_owned),
            snapshot: snapshot.map(str::to_owned),
            packages: Vec::new(),
        }
    }

    fn plan(distribution: Distribution, suite: &str, arch: Arch) -> Plan {
        let spec = bootstrap(suite, None, None);
        Plan {
            distribution,
            suite: suite.into(),
            lines: mirror_lines(&spec, distribution, "http://mirror.example/archive/", true),
            dated: false,
            keyrings: vec!["/keys.gpg".into()],
            packages: distribution.packages(arch).into_iter().map(str::to_owned).collect(),
            arch,
            apt_options: vec!["Acquire::http::Proxy \"http://proxy.example:3142\"".into()],
            login: Login::default(),
        }
    }

    fn place() -> Place {
        Place {
            root_partuuid: uuid::Uuid::from_u128(1),
            esp_partuuid: uuid::Uuid::from_u128(2),
            epoch: 1_700_000_000,
        }
    }

    fn rendered(plan: &Plan) -> String {
        let entry = command(plan);
        let environment = environment(plan, &place());
        let variables = environment.iter().map(|(name, value)| format!("{name}={value}"));
        variables.chain(entry.program).chain(entry.args).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn debian_on_x86_64() {
        insta::assert_snapshot!(rendered(&plan(Distribution::Debian, "bookworm", Arch::X86_64)));
    }

    #[test]
    fn ubuntu_on_arm64() {
        insta::assert_snapshot!(rendered(&plan(Distribution::Ubuntu, "noble", Arch::Arm64)));
    }

    #[test]
    fn a_snapshot_and_more_packages() {
        let mut plan = plan(Distribution::Debian, "trixie", Arch::Arm64);
        let spec = bootstrap("trixie", None, Some("20260101T000000Z"));
        plan.lines = mirror_lines(&spec, Distribution::Debian, "http://mirror.example/archive", false);
        plan.dated = true;
        plan.packages.push("git".into());
        plan.apt_options.clear();
        insta::assert_snapshot!(rendered(&plan));
    }

    #[test]
    fn where_security_updates_come_from() {
        let (m, s) = ("http://m.example/archive/", Some("http://s.example/security/"));
        let updates = "http://m.example/archive x-updates";
        for (distribution, security, snapshot, has_updates, expected) in [
            (Distribution::Debian, None, None, true, vec![updates]),
            (Distribution::Debian, s, None, true, vec![updates, "http://s.example/security x-security"]),
            (Distribution::Debian, s, None, false, vec!["http://s.example/security x-security"]),
            (
                Distribution::Debian,
                s,
                Some("20260101"),
                false,
                vec!["http://s.example/security/20260101 x-security"],
            ),
            (Distribution::Ubuntu, None, None, true, vec![updates, "http://m.example/archive x-security"]),
            (Distribution::Ubuntu, s, None, true, vec![updates, "http://s.example/security x-security"]),
            (Distribution::Ubuntu, None, None, false, vec![]),
        ] {
            let lines = mirror_lines(&bootstrap("x", security, snapshot), distribution, m, has_updates);
            let shown: Vec<_> =
                lines[1..].iter().map(|line| format!("{} {}", line.uri, line.suite)).collect();
            assert_eq!(shown, expected, "{distribution:?} {security:?} {snapshot:?}");
        }
    }

    #[test]
    fn failures_are_told_apart() {
        let plan = plan(Distribution::Debian, "bookworm", Arch::X86_64);
        let cases = [
            (
                "E: Unable to locate package nonesuch\nE: apt-get failed",
                "the suite has no package named nonesuch",
            ),
            (
                "E: Package 'a' has no installation candidate\nE: Unable to locate package b",
                "the suite has no package named a, b",
            ),
            (
                "Err:1 Could not resolve 'mirror.example'",
                "the package mirror http://mirror.example/archive cannot be used: Err:1 Could not resolve 'mirror.example'",
            ),
            (
                "tar: write: No space left on device\nE: failed",
                "no space left while trying to bootstrap bookworm. ",
            ),
            (
                "W: no entry in /etc/subuid for eve\nE: invalid idmap",
                "cannot make the namespaces in which an image is built: W: no entry in /etc/subuid for eve. Give",
            ),
            (
                "E: unshare() failed: Operation not permitted",
                "cannot make the namespaces in which an image is built: E: unshare() failed: Operation not permitted. This host forbids",
            ),
            (
                "sindri: namespaces refused: a /proc of its own: EPERM",
                "cannot make the namespaces in which an image is built: a /proc of its own: EPERM. In a container",
            ),
            (
                "sindri: namespaces refused: the tree as the root: EINVAL",
                "cannot make the namespaces in which an image is built: the tree as the root: EINVAL. This host forbids pivot_root",
            ),
            (
                "sindri: namespaces refused: an overlay over the layer: EINVAL",
                "cannot make the namespaces in which an image is built: an overlay over the layer: EINVAL. The cache folder",
            ),
            (
                "E: something else",
                "the bootstrap of bookworm failed; its last lines were:\nE: something else",
            ),
        ];
        for (tail, message) in cases {
            let error = explain(&plan, tail).to_string();
            assert!(error.starts_with(message), "{tail}: {error}");
        }
    }
}
