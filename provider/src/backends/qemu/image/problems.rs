//! What is impossible about an image, as far as it can be said before anything is done.

use super::distribution::Distribution;
use crate::backends::qemu::host::Emulator;
use crate::backends::qemu::{Arch, Base, Bootstrap, Engine, Network, QemuImageSpec};
use crate::domain::{Action, ImageSpec, OnError};

/// More than any file system of a guest can hold, in GiB.
const LARGEST_GB: u32 = 16 * 1024;

/// Problems, each with the name of the attribute that it is about, dots between its parts.
pub(crate) fn problems(qemu: &QemuImageSpec, spec: &ImageSpec) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    if qemu.disk_size_gb > LARGEST_GB {
        problems.push(("qemu.disk_size_gb".to_owned(), format!("A disk has at most {LARGEST_GB} GiB.")));
    }
    if let Base::Bootstrap(bootstrap) = &qemu.base {
        problems.extend(suite(bootstrap).map(|text| ("qemu.base.bootstrap.suite".to_owned(), text)));
        if bootstrap.security_mirror.is_some() && !Distribution::has_updates(&bootstrap.suite) {
            let text = format!("{} has no security archive: leave `security_mirror` out.", bootstrap.suite);
            problems.push(("qemu.base.bootstrap.security_mirror".to_owned(), text));
        }
        problems.extend(arch(qemu.arch, Arch::host()).map(|text| ("qemu.arch".to_owned(), text)));
    }
    if qemu.engine == Engine::Packer {
        problems.extend(packer(qemu, spec));
    } else if !qemu.boot {
        if matches!(qemu.base, Base::Image { .. }) && !spec.steps.is_empty() {
            let text = "A base image is never mounted on this computer, so its steps run in a guest: leave `boot` out or set it to true.";
            problems.push(("qemu.boot".to_owned(), text.to_owned()));
        }
        for (index, step) in spec.steps.iter().enumerate() {
            if step.action == Action::Reboot {
                let text = "There is nothing to reboot where steps run in the file tree: set `qemu.boot = true`, or leave the step out.";
                problems.push((format!("provision.{index}.reboot"), text.to_owned()));
            }
        }
    }
    problems
}

/// What this computer lacks for building it, of which a build itself would tell late.
pub(crate) fn build_problems(qemu: &QemuImageSpec, spec: &ImageSpec) -> Vec<(String, String)> {
    let (attribute, why) = match (qemu.boot, spec.checks.is_empty()) {
        (true, _) => ("qemu.boot", "Steps run in a guest"),
        (false, false) => ("verify", "Checks run in a guest"),
        (false, true) => return Vec::new(),
    };
    let missing = Emulator::program(qemu.arch).err();
    missing.map(|error| (attribute.to_owned(), format!("{why}: {error}."))).into_iter().collect()
}

/// What will be as asked for, and perhaps not as meant.
pub(crate) fn doubts(qemu: &QemuImageSpec, spec: &ImageSpec) -> Vec<(String, String)> {
    let mut doubts = Vec::new();
    if let Base::Bootstrap(bootstrap) = &qemu.base
        && bootstrap.mirror.is_some()
        && bootstrap.security_mirror.is_none()
        && bootstrap.snapshot.is_none()
        && Distribution::has_updates(&bootstrap.suite)
        && Distribution::of_suite(&bootstrap.suite) != Some(Distribution::Ubuntu)
    {
        let text = "Debian's security updates are in an archive of their own, which a `mirror` of the suite is not: this image has none of them, and machines from it will not see any. Set `security_mirror` to the archive's URL.";
        doubts.push(("qemu.base.bootstrap.security_mirror".to_owned(), text.to_owned()));
    }
    let boots = qemu.boot || !spec.checks.is_empty();
    if spec.on_error == OnError::Keep && !boots {
        let text = "There is no guest to keep: the steps run in the file tree, which is removed when one fails. Set `qemu.boot = true` to run them in a guest.";
        doubts.push(("on_error".to_owned(), text.to_owned()));
    }
    doubts
}

/// What Packer cannot do.
fn packer(qemu: &QemuImageSpec, spec: &ImageSpec) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    if !qemu.boot {
        let text =
            "Packer runs steps in a booted guest only: leave `boot` out, or set `engine = \"native\"`.";
        problems.push(("qemu.boot".to_owned(), text.to_owned()));
    }
    if qemu.network == Network::Mirror {
        let text = "Under Packer a guest reaches all or nothing: set `network = \"none\"` or `\"user\"`, or `engine = \"native\"`.";
        problems.push(("qemu.network".to_owned(), text.to_owned()));
    }
    if spec.on_error == OnError::Keep {
        let text =
            "Packer ends its guest when a step fails: `on_error = \"keep\"` needs `engine = \"native\"`.";
        problems.push(("on_error".to_owned(), text.to_owned()));
    }
    problems
}

/// What is wrong with an architecture where packages are installed by this computer itself, which is of `host`, or of none that
/// images are made for.
fn arch(wanted: Arch, host: Option<Arch>) -> Option<String> {
    if host == Some(wanted) {
        return None;
    }
    let wanted = wanted.name();
    Some(match host.map(Arch::name) {
        Some(own) => format!(
            "Packages of {wanted} are not installed by a computer of {own}, as this one is: start from a base `image`, or set `arch = \"{own}\"`, for its machines too."
        ),
        None => format!(
            "Packages of {wanted} are installed by a computer of that architecture only: start from a base `image`."
        ),
    })
}

/// What is wrong with a suite.
fn suite(bootstrap: &Bootstrap) -> Option<String> {
    let suite = &bootstrap.suite;
    if Distribution::too_old(suite) {
        return Some(format!(
            "{suite} is too old: its systemd-boot does not follow kernel upgrades. Debian 12 (bookworm) and Ubuntu 24.04 (noble) are the oldest that work."
        ));
    }
    let unknown = Distribution::of_suite(suite).is_none() && bootstrap.mirror.is_none();
    unknown.then(|| format!("Suite {suite:?} is not known; for a suite of Debian or Ubuntu that is newer than this provider, set `mirror`."))
}

#[cfg(test)]
pub(in crate::backends::qemu) mod tests {
    use super::*;
    use crate::backends::qemu::{DiskFormat, ImageSource};
    use crate::domain::{Check, Environment, Security, Step};

    pub(in crate::backends::qemu) fn qemu(base: Base, boot: bool) -> QemuImageSpec {
        QemuImageSpec {
            base,
            arch: Arch::host().unwrap_or(Arch::X86_64),
            disk_size_gb: 10,
            memory_mb: 2048,
            cpus: 2,
            format: DiskFormat::Qcow2,
            compress: true,
            network: Network::User,
            boot,
            engine: Engine::Native,
        }
    }

    pub(in crate::backends::qemu) fn spec(actions: &[Action]) -> ImageSpec {
        let step = |action: &Action| Step {
            action: action.clone(),
            environment: Environment::default(),
            user: None,
            timeout: None,
        };
        ImageSpec {
            name_prefix: "dev".into(),
            environment: Environment::default(),
            steps: actions.iter().map(step).collect(),
            security: Security { clean_sensitive_data: true, remove_ssh_host_keys: true },
            checks: Vec::new(),
            on_error: OnError::Cleanup,
        }
    }

    #[test]
    fn suites_that_cannot_be_built_say_so() {
        for (name, mirror, found) in [
            ("bookworm", None, 0),
            ("noble", None, 0),
            ("jammy", None, 1),
            ("bogus", None, 1),
            ("bogus", Some("https://mirror.example/debian"), 0),
        ] {
            let base = Bootstrap {
                suite: name.into(),
                mirror: mirror.map(str::to_owned),
                security_mirror: None,
                snapshot: None,
                packages: Vec::new(),
            };
            let problems = problems(&qemu(Base::Bootstrap(base), false), &spec(&[]));
            assert_eq!(problems.len(), found, "{name}: {problems:?}");
        }
    }

    #[test]
    fn another_architecture_than_the_computers_says_what_to_set() {
        let told = |wanted, host| arch(wanted, host).unwrap_or_default();
        for own in [Arch::X86_64, Arch::Arm64] {
            assert_eq!(told(own, Some(own)), "");
        }
        for (wanted, own, set) in [
            (Arch::X86_64, Arch::Arm64, "`arch = \"arm64\"`"),
            (Arch::Arm64, Arch::X86_64, "`arch = \"x86_64\"`"),
        ] {
            let text = told(wanted, Some(own));
            assert!(text.contains(set) && text.contains("a base `image`"), "{text}");
        }
        let text = told(Arch::X86_64, None);
        assert!(text.contains("x86_64") && !text.contains("arch ="), "{text}");

        // On its own attribute, and only where there are packages.
        let other = if Arch::host() == Some(Arch::X86_64) { Arch::Arm64 } else { Arch::X86_64 };
        let packages = Bootstrap {
            suite: "bookworm".into(),
            mirror: None,
            security_mirror: None,
            snapshot: None,
            packages: Vec::new(),
        };
        let image = Base::Image { source: ImageSource::Path("/base.qcow2".into()), sha256: None };
        for (base, expected) in [(Base::Bootstrap(packages), &["qemu.arch"][..]), (image, &[])] {
            let qemu = QemuImageSpec { arch: other, ..qemu(base, true) };
            let named: Vec<_> =
                problems(&qemu, &spec(&[])).into_iter().map(|(attribute, _)| attribute).collect();
            assert_eq!(named, expected);
        }
    }

    #[test]
    fn what_is_perhaps_not_meant_is_said() {
        let bootstrap = |suite: &str, mirror: bool, security: bool, snapshot: bool| Bootstrap {
            suite: suite.into(),
            mirror: mirror.then(|| "http://m.example/debian".into()),
            security_mirror: security.then(|| "http://m.example/security".into()),
            snapshot: snapshot.then(|| "20260101".into()),
            packages: Vec::new(),
        };
        let named = |base: Bootstrap, boot: bool, spec: &ImageSpec| -> Vec<String> {
            let found = doubts(&qemu(Base::Bootstrap(base), boot), spec);
            found.into_iter().map(|(attribute, _)| attribute).collect()
        };
        let at = "qemu.base.bootstrap.security_mirror";
        for (base, expected) in [
            (bootstrap("bookworm", true, false, false), &[at][..]),
            (bootstrap("newer", true, false, false), &[at]),
            (bootstrap("bookworm", false, false, false), &[]),
            (bootstrap("bookworm", true, true, false), &[]),
            (bootstrap("bookworm", true, false, true), &[]),
            (bootstrap("sid", true, false, false), &[]),
            (bootstrap("noble", true, false, false), &[]),
        ] {
            assert_eq!(named(base.clone(), false, &spec(&[])), expected, "{base:?}");
        }
        let check = Check { name: "one".into(), command: "true".into() };
        for (boot, checks, on_error, expected) in [
            (false, vec![], OnError::Keep, &["on_error"][..]),
            (false, vec![], OnError::Cleanup, &[]),
            (false, vec![check], OnError::Keep, &[]),
            (true, vec![], OnError::Keep, &[]),
        ] {
            let spec = ImageSpec { checks, on_error, ..spec(&[]) };
            assert_eq!(named(bootstrap("bookworm", false, false, false), boot, &spec), expected, "{spec:?}");
        }
    }

    #[test]
    fn what_packer_cannot_do_says_so() {
        let image = Base::Image { source: ImageSource::Path("/base.qcow2".into()), sha256: None };
        for (boot, network, on_error, expected) in [
            (true, Network::User, OnError::Cleanup, &[][..]),
            (true, Network::None, OnError::Cleanup, &[]),
            (true, Network::Mirror, OnError::Cleanup, &["qemu.network"]),
            (false, Network::User, OnError::Cleanup, &["qemu.boot"]),
            (false, Network::User, OnError::Keep, &["qemu.boot", "on_error"]),
        ] {
            let qemu = QemuImageSpec { engine: Engine::Packer, network, ..qemu(image.clone(), boot) };
            let problems = problems(&qemu, &ImageSpec { on_error, ..spec(&[]) });
            let named: Vec<_> = problems.iter().map(|(attribute, _)| attribute.as_str()).collect();
            assert_eq!(named, expected);
        }
    }

    #[test]
    fn what_needs_a_guest_says_so() {
        let image = || Base::Image { source: ImageSource::Path("/base.qcow2".into()), sha256: None };
        let packages = || {
            let suite = "bookworm".to_owned();
            Base::Bootstrap(Bootstrap {
                suite,
                mirror: None,
                security_mirror: None,
                snapshot: None,
                packages: Vec::new(),
            })
        };
        let inline = Action::Inline(vec!["true".into()]);
        let cases: [(Base, bool, &[Action], &[&str]); 6] = [
            (packages(), false, std::slice::from_ref(&inline), &[]),
            (packages(), true, &[Action::Reboot], &[]),
            (packages(), false, &[inline.clone(), Action::Reboot], &["provision.1.reboot"]),
            (image(), true, std::slice::from_ref(&inline), &[]),
            (image(), false, &[], &[]),
            (image(), false, std::slice::from_ref(&inline), &["qemu.boot"]),
        ];
        for (base, boot, actions, expected) in cases {
            let problems = problems(&qemu(base, boot), &spec(actions));
            let named: Vec<_> = problems.iter().map(|(attribute, _)| attribute.as_str()).collect();
            assert_eq!(named, expected, "boot = {boot}, {actions:?}");
        }
    }
}
