//! `terraform-provider-sindri supervise [--grace SECONDS] [--alone] [--then FILE --lock FD] -- PROGRAM ARGS…`: a
//! parent for programs that must not outlive us.
//!
//! Standard input is a pipe whose other end the provider holds. When it closes (the provider cancelled,
//! crashed or was killed) the program and its process group get SIGTERM, a grace period, and then all that
//! descends from it SIGKILL. With `--alone` SIGTERM goes to the program only, for one that ends what it has
//! started in an order of its own. A program that ends by itself leaves no descendants behind either.
//!
//! With `--then FILE --lock FD` somebody has to clean up after the program: see [`super::hand_over`].

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::hand_over::Heir;
use super::run::code;

/// What a program has between SIGTERM and SIGKILL when nobody says otherwise.
const GRACE: Duration = Duration::from_secs(5);

/// How often the program and the pipe are looked at.
const TICK: Duration = Duration::from_millis(10);

/// How a program is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// What it has between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// Whether SIGTERM goes to the program alone, and not to its process group.
    pub alone: bool,
}

impl Default for Ending {
    fn default() -> Self {
        Self { grace: GRACE, alone: false }
    }
}

impl Ending {
    /// The supervisor's arguments before `--`.
    pub(super) fn args(self) -> Vec<String> {
        let mut args = Vec::new();
        if self.grace != GRACE {
            args.extend(["--grace".to_owned(), self.grace.as_secs().to_string()]);
        }
        if self.alone {
            args.push("--alone".to_owned());
        }
        args
    }
}

/// What the supervisor is told before the program.
#[derive(Debug, Default, PartialEq, Eq)]
struct Orders {
    ending: Ending,
    heir: Option<Heir>,
}

impl Orders {
    /// Reads them, and the `--`. None when they are not what [`Ending::args`] and [`args`](super::hand_over::args) make.
    fn read(args: &mut impl Iterator<Item = OsString>) -> Option<Self> {
        let mut orders = Self::default();
        loop {
            match args.next()?.to_str()? {
                "--" => return Some(orders),
                "--alone" => orders.ending.alone = true,
                "--grace" => {
                    orders.ending.grace = Duration::from_secs(args.next()?.to_str()?.parse().ok()?);
                }
                "--then" => orders.heir = Some(Heir::read(args)?),
                _ => return None,
            }
        }
    }
}

/// Runs the program named in `args` (after `--`) and returns the exit code to end with: the program's own,
/// 128 + n after signal n, 127 when it cannot be started.
pub fn main(args: impl IntoIterator<Item = OsString>) -> i32 {
    let mut args = args.into_iter();
    let Some(Orders { ending, heir }) = Orders::read(&mut args) else { return 127 };
    let Some(program) = args.next() else { return 127 };
    // Orphans of the tree become our children, so that they can be found and ended.
    if rustix::process::set_child_subreaper(Some(rustix::process::getpid())).is_err() {
        return 127;
    }
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    if heir.as_ref().is_some_and(|heir| heir.keep_from(&mut command).is_err()) {
        return 127;
    }
    in_own_session(&mut command);
    die_with_parent(&mut command);
    let Ok(mut child) = command.spawn() else { return 127 };
    let closed = watch_stdin();
    let code = wait(&mut child, &closed, ending);
    end_descendants();
    if let Some(heir) = heir
        && closed.load(Ordering::Acquire)
    {
        heir.run();
    }
    code
}

fn wait(child: &mut Child, closed: &AtomicBool, ending: Ending) -> i32 {
    let mut asked: Option<Instant> = None;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return code(status),
            Ok(None) => {}
            Err(_) => return 127,
        }
        match asked {
            None if closed.load(Ordering::Acquire) => {
                asked = Some(Instant::now());
                terminate(child, ending);
            }
            Some(since) if since.elapsed() > ending.grace => end_descendants(),
            _ => {}
        }
        std::thread::sleep(TICK);
    }
}

fn terminate(child: &Child, ending: Ending) {
    let Some(pid) = Pid::from_raw(child.id().cast_signed()) else { return };
    let _ = if ending.alone {
        rustix::process::kill_process(pid, Signal::TERM)
    } else {
        rustix::process::kill_process_group(pid, Signal::TERM)
    };
}

/// Notices the end of standard input.
fn watch_stdin() -> Arc<AtomicBool> {
    let closed = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&closed);
    std::thread::spawn(move || {
        let mut byte = [0];
        while matches!(io::stdin().read(&mut byte), Ok(1)) {}
        seen.store(true, Ordering::Release);
    });
    closed
}

/// Kills everything below us until nothing is left; what forks meanwhile is found in the next round.
fn end_descendants() {
    for _ in 0..100 {
        let below = descendants(std::process::id());
        if below.is_empty() {
            return;
        }
        for pid in below.into_iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG);
        }
        std::thread::sleep(TICK);
    }
}

fn descendants(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children: Vec<u32> = tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect();
    children.iter().flat_map(|child| descendants(*child)).chain(children.iter().copied()).collect()
}

/// Without a terminal a program can neither ask nor be stopped for reading from one. It leads a process group,
/// too.
#[allow(unsafe_code)]
fn in_own_session(command: &mut Command) {
    let leave = || rustix::process::setsid().map(drop).map_err(io::Error::from);
    // SAFETY: between fork and exec the closure makes one system call, allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(leave);
    }
}

/// Should the supervisor itself be killed, the kernel ends its child.
#[allow(unsafe_code)]
pub(super) fn die_with_parent(command: &mut Command) {
    let die =
        || rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from);
    // SAFETY: between fork and exec the closure makes one system call (prctl), allocates nothing and takes
    // no lock.
    unsafe {
        command.pre_exec(die);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_as_they_are_written() {
        let grace = Duration::from_secs(30);
        for ending in [Ending::default(), Ending { grace, alone: true }, Ending { grace, alone: false }] {
            let args = ending.args().into_iter().chain(["--".to_owned(), "true".to_owned()]);
            let mut args = args.map(OsString::from);
            assert_eq!(Orders::read(&mut args), Some(Orders { ending, heir: None }));
            assert_eq!(args.next(), Some("true".into()));
        }
        for wrong in
            [&["true"][..], &["--grace", "--"], &["--grace"], &[], &["--alone"], &["--then", "f", "--"]]
        {
            assert_eq!(Orders::read(&mut wrong.iter().map(OsString::from)), None, "{wrong:?}");
        }
    }
}
