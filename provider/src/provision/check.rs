//! Checks of a finished image, in a machine from it: the same for every backend.

use crate::domain::Check;
use crate::process::Finished;

/// How many of a failed check's last lines are shown.
const TAIL: usize = 20;

/// Run in a machine from the finished image before its checks: a service that they ask for may start last.
pub const STARTED: &str = "systemctl is-system-running --wait >/dev/null 2>&1 || true";

/// A check of the finished image failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the check {name:?} failed with exit code {code} in the finished image; its last lines were:\n{tail}"
)]
pub struct FailedCheck {
    /// As the user named it.
    pub name: String,
    /// Its exit code.
    pub code: i32,
    /// The last lines of output.
    pub tail: String,
}

/// Whether a check was passed.
///
/// # Errors
/// When it ended with another exit code than 0.
pub fn judge(check: &Check, finished: &Finished) -> Result<(), FailedCheck> {
    if finished.code == 0 {
        return Ok(());
    }
    Err(FailedCheck { name: check.name.clone(), code: finished.code, tail: finished.tail(TAIL) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_check_tells_its_last_lines() {
        let check = Check { name: "docker runs".to_owned(), command: "docker info".to_owned() };
        let finished =
            |code, lines: u32| Finished { code, output: (0..lines).map(|n| format!("{n}\n")).collect() };
        for (code, lines, expected) in
            [(0, 3, None), (1, 0, Some("")), (7, 2, Some("0\n1")), (137, 21, Some("1\n2\n3"))]
        {
            let judged = judge(&check, &finished(code, lines)).err();
            assert_eq!(judged.as_ref().map(|failed| failed.code), expected.map(|_| code), "{code}");
            let tail = judged.as_ref().map(|failed| failed.tail.as_str());
            assert!(tail.is_none_or(|tail| tail.starts_with(expected.unwrap_or("?"))), "{tail:?}");
        }
        let told = judge(&check, &finished(3, 1)).unwrap_err().to_string();
        let words = "the check \"docker runs\" failed with exit code 3 in the finished image; its last lines were:\n0";
        assert_eq!(told, words);
    }
}
