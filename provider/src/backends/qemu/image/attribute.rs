//! Which attribute a failed build is about.

use super::BuildError;
use crate::backends::qemu::{Base, QemuImageSpec};
use crate::domain::ImageSpec;
use crate::provision::{FailedCheck, StepFailure};

impl BuildError {
    /// The attribute that it is about, if it is about one, dots between its parts.
    pub fn attribute(&self, qemu: &QemuImageSpec, spec: &ImageSpec) -> Option<String> {
        let bootstrap = |name: &str| Some(format!("qemu.base.bootstrap.{name}"));
        match self {
            Self::UnknownSuite { .. } | Self::NoKeyring { .. } => bootstrap("suite"),
            Self::NoMirror { .. } => bootstrap("mirror"),
            Self::Mirror { url, .. } => {
                let Base::Bootstrap(asked) = &qemu.base else { return None };
                let is = |mirror: &Option<String>| {
                    mirror.as_ref().is_some_and(|mirror| url.starts_with(mirror.trim_end_matches('/')))
                };
                match (is(&asked.security_mirror), is(&asked.mirror)) {
                    (true, _) => bootstrap("security_mirror"),
                    (_, true) => bootstrap("mirror"),
                    // This computer's own.
                    _ => Some("qemu.base.bootstrap".to_owned()),
                }
            }
            Self::UnknownPackages { .. } => bootstrap("packages"),
            Self::Step(StepFailure::Code { name, .. }) => {
                step(name).map(|index| format!("provision.{index}"))
            }
            Self::Step(StepFailure::Timeout { name, .. }) => {
                step(name).map(|index| format!("provision.{index}.timeout"))
            }
            Self::Check(FailedCheck { name, .. }) => {
                let index = spec.checks.iter().position(|check| check.name == *name)?;
                Some(format!("verify.{index}"))
            }
            Self::TooSmall { .. } => Some("qemu.disk_size_gb".to_owned()),
            Self::Download { .. } | Self::Refused { .. } => Some("qemu.base.image".to_owned()),
            Self::Checksum { .. } => Some("qemu.base.sha256".to_owned()),
            Self::OldPacker { .. } => Some("qemu.engine".to_owned()),
            Self::NoWay { .. } => Some("qemu.network".to_owned()),
            Self::Kept { source, .. } => source.attribute(qemu, spec),
            _ => None,
        }
    }
}

/// A step's position, from 0, by its name: `1 (echo one)`. Our own have no number.
fn step(name: &str) -> Option<usize> {
    let (number, _) = name.split_once(' ')?;
    number.parse::<usize>().ok()?.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::problems::tests::{qemu, spec};
    use super::*;
    use crate::backends::qemu::Bootstrap;
    use crate::domain::Check;

    #[test]
    fn each_failure_has_its_attribute() {
        let base = Base::Bootstrap(Bootstrap {
            suite: "bookworm".into(),
            mirror: Some("http://m.example/debian/".into()),
            security_mirror: Some("http://s.example/security".into()),
            snapshot: Some("20260101".into()),
            packages: Vec::new(),
        });
        let check = |name: &str| Check { name: name.into(), command: "true".into() };
        let (qemu, mut spec) = (qemu(base, false), spec(&[]));
        spec.checks = vec![check("one"), check("two")];
        let mirror = |url: &str| BuildError::Mirror { url: url.into(), reason: String::new() };
        let text = String::new;
        let failed =
            |name: &str| BuildError::from(StepFailure::Code { name: name.into(), code: 1, tail: text() });
        let late = StepFailure::Timeout { name: "2 (x)".into(), limit: Duration::ZERO, tail: text() };
        let cases = [
            (BuildError::UnknownSuite { suite: text(), reason: text() }, Some("qemu.base.bootstrap.suite")),
            (mirror("http://m.example/debian/20260101"), Some("qemu.base.bootstrap.mirror")),
            (mirror("http://s.example/security/20260101"), Some("qemu.base.bootstrap.security_mirror")),
            (mirror("http://own.example/debian"), Some("qemu.base.bootstrap")),
            (BuildError::UnknownPackages { packages: Vec::new() }, Some("qemu.base.bootstrap.packages")),
            (failed("1 (echo one)"), Some("provision.0")),
            (failed("12 (a (b) c)"), Some("provision.11")),
            (failed("clean up"), None),
            (failed("0 (x)"), None),
            (late.into(), Some("provision.1.timeout")),
            (BuildError::Check(FailedCheck { name: "two".into(), code: 1, tail: text() }), Some("verify.1")),
            (BuildError::TooSmall { disk_gb: 1, needed_gb: 2 }, Some("qemu.disk_size_gb")),
            (
                BuildError::Checksum { what: text(), expected: text(), found: text() },
                Some("qemu.base.sha256"),
            ),
            (BuildError::NoWay { reason: text() }, Some("qemu.network")),
            (BuildError::Refused { reason: "" }, Some("qemu.base.image")),
            (BuildError::Kept { source: Box::new(failed("3 (x)")), login: text() }, Some("provision.2")),
            (BuildError::Cancelled, None),
        ];
        for (error, expected) in cases {
            assert_eq!(error.attribute(&qemu, &spec).as_deref(), expected, "{error:?}");
        }
    }
}
