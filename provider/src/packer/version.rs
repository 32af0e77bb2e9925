//! Packer's version, from what `packer version` prints.

use std::fmt;

/// Major, minor and patch; what follows a hyphen is the packager's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

impl Version {
    /// The oldest that is driven: the first with HCL2 templates that are stable enough to be written for.
    pub const OLDEST: Self = Self::new(1, 6, 0);

    /// A version by its numbers.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// From the output of `packer version`; none when no line is Packer's.
    pub fn of_output(output: &str) -> Option<Self> {
        output.lines().find_map(|line| Self::of_text(line.trim().strip_prefix("Packer v")?))
    }

    /// From its numbers with dots between them, whatever a packager adds.
    pub fn of_text(text: &str) -> Option<Self> {
        let numbers = text.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
        let mut parts = numbers.split('.').map(|part| part.parse().ok());
        let version = Self::new(parts.next()??, parts.next()??, parts.next()??);
        parts.next().is_none().then_some(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_packers_print_and_what_others_do() {
        for (output, expected) in [
            ("Packer v1.6.6\n", Some((1, 6, 6))),
            ("Packer v1.10.0-mpl", Some((1, 10, 0))),
            (
                "Packer v1.11.2\n\nYour version of Packer is out of date! The latest version\nis 1.12.0.",
                Some((1, 11, 2)),
            ),
            ("\nPacker v1.7.0+dev\r\n", Some((1, 7, 0))),
            // cracklib's tool of that name.
            ("version.pwd: No such file or directory", None),
            ("Packer v1.7", None),
            ("Packer v1.7.0.1", None),
            ("Packer v", None),
            ("Packer v99999999999.1.1", None),
            ("1.6.6", None),
            ("", None),
        ] {
            let expected = expected.map(|(major, minor, patch)| Version::new(major, minor, patch));
            assert_eq!(Version::of_output(output), expected, "{output:?}");
        }
        assert!(Version::new(1, 10, 0) > Version::new(1, 6, 6));
        assert_eq!(Version::new(1, 10, 0).to_string(), "1.10.0");
    }
}
