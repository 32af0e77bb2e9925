//! What is to be done when a program ends and we are not there any more: our supervisor runs this same binary as
//! `sweep --build FILE`, which removes what the program left elsewhere.
//!
//! The supervisor holds a lock with us, so that nobody else takes the work for abandoned meanwhile. It gives it up
//! before `sweep` looks for it: when we live after all, we have it, and there is nothing to do.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

use super::command::passed;

/// How long the sweep may take: longer than it gives itself.
const LONGEST: Duration = Duration::from_secs(20 * 60);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Before the name of a variable that the sweep gets and the program does not. They may differ: the program's
/// credentials end with it.
const OWN: &str = "SINDRI_SWEEP_";

/// What the supervisor does after its program when our end of the pipe is closed.
#[derive(Debug, Clone, Copy)]
pub struct HandOver<'a> {
    /// Says what there is to do: the argument of `sweep --build`.
    pub file: &'a Path,
    /// Held as long as somebody works on it.
    pub lock: BorrowedFd<'a>,
    /// Variables for the sweep, beside those that any program of ours sees.
    pub env: &'a BTreeMap<OsString, OsString>,
}

impl HandOver<'_> {
    /// The supervisor's environment and open files.
    #[allow(unsafe_code)]
    pub(super) fn give_to(&self, supervisor: &mut tokio::process::Command) {
        for (name, value) in self.env {
            let mut own = OsString::from(OWN);
            own.push(name);
            supervisor.env(own, value);
        }
        let lock = self.lock.as_raw_fd();
        let keep_open = move || {
            // SAFETY: the caller holds the lock until the supervisor is started.
            let lock = unsafe { BorrowedFd::borrow_raw(lock) };
            fcntl_setfd(lock, FdFlags::empty()).map_err(io::Error::from)
        };
        // SAFETY: between fork and exec the closure makes one system call, allocates nothing and takes no lock.
        unsafe {
            supervisor.pre_exec(keep_open);
        }
    }
}

/// The supervisor's arguments.
pub(super) fn args(then: &HandOver<'_>) -> [OsString; 4] {
    let lock = then.lock.as_raw_fd().to_string();
    ["--then".into(), then.file.into(), "--lock".into(), lock.into()]
}

/// What the supervisor was given.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Heir {
    file: OsString,
    lock: RawFd,
}

impl Heir {
    /// Reads what follows `--then`. None when it is not what [`args`] makes.
    pub(super) fn read(args: &mut impl Iterator<Item = OsString>) -> Option<Self> {
        let file = args.next()?;
        (args.next()? == "--lock").then_some(())?;
        let lock = args.next()?.to_str()?.parse().ok().filter(|fd| *fd > 2)?;
        Some(Self { file, lock })
    }

    /// Neither the lock nor our variables are for the program.
    ///
    /// # Errors
    /// When the lock was not handed over.
    #[allow(unsafe_code)]
    pub(super) fn keep_from(&self, program: &mut Command) -> io::Result<()> {
        // SAFETY: used for two system calls, which fail when it is not open.
        let lock = unsafe { BorrowedFd::borrow_raw(self.lock) };
        fcntl_setfd(lock, fcntl_getfd(lock)? | FdFlags::CLOEXEC)?;
        for (name, _) in std::env::vars_os() {
            if own(&name).is_some() {
                program.env_remove(name);
            }
        }
        Ok(())
    }

    /// Runs the sweep to its end. What becomes of it is in the file, which stays when something is left.
    #[allow(unsafe_code)]
    pub(super) fn run(self) {
        // SAFETY: nobody else in this process has it: the program's copy went with its exec.
        drop(unsafe { OwnedFd::from_raw_fd(self.lock) });
        // By this name it is our own binary even if an update has replaced the file meanwhile.
        let mut sweep = Command::new("/proc/self/exe");
        sweep.args([OsStr::new("sweep"), OsStr::new("--build"), &self.file]).stdin(Stdio::null()).env_clear();
        for (name, value) in std::env::vars_os() {
            if let Some(own) = own(&name) {
                sweep.env(own, value);
            } else if name == "PATH" || passed().any(|passed| name == passed) {
                sweep.env(name, value);
            }
        }
        let Ok(mut sweep) = sweep.spawn() else { return };
        let begun = Instant::now();
        while matches!(sweep.try_wait(), Ok(None)) {
            if begun.elapsed() > LONGEST {
                let _ = sweep.kill();
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// The name that a variable of ours has for the sweep.
fn own(name: &OsStr) -> Option<OsString> {
    name.as_bytes().strip_prefix(OWN.as_bytes()).map(|name| OsString::from_vec(name.to_vec()))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn arguments_are_read_as_they_are_written() {
        let (file, env) = (tempfile::tempfile().unwrap(), BTreeMap::new());
        let then = HandOver { file: Path::new("/j/a b.json"), lock: file.as_fd(), env: &env };
        let mut args = args(&then).into_iter();
        assert_eq!(args.next().as_deref(), Some(OsStr::new("--then")));
        let expected = Heir { file: "/j/a b.json".into(), lock: file.as_raw_fd() };
        assert_eq!(Heir::read(&mut args), Some(expected));
        for wrong in
            [&["f"][..], &["f", "--lock"], &["f", "--lock", "x"], &["f", "--lock", "1"], &["f", "--", "9"]]
        {
            assert_eq!(Heir::read(&mut wrong.iter().map(OsString::from)), None, "{wrong:?}");
        }
    }

    #[test]
    fn variables_of_the_sweep_are_told_by_their_prefix() {
        for (name, expected) in [
            ("SINDRI_SWEEP_AWS_PROFILE", Some("AWS_PROFILE")),
            ("AWS_PROFILE", None),
            ("X_SINDRI_SWEEP_A", None),
        ] {
            assert_eq!(own(OsStr::new(name)), expected.map(OsString::from), "{name}");
        }
    }
}
