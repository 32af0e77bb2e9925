//! `terraform-provider-sindri supervise -- PROGRAM ARGS…`: a parent for programs that must not outlive us.
//!
//! Standard input is a pipe whose other end the provider holds. When it closes (the provider cancelled,
//! crashed or was killed) the program gets SIGTERM, a grace period, and then all that descends from it
//! SIGKILL. A program that ends by itself leaves no descendants behind either.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// What a program has between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// How often the program and the pipe are looked at.
const TICK: Duration = Duration::from_millis(10);

/// Runs the program named in `args` (after `--`) and returns the exit code to end with: the program's own,
/// 128 + n after signal n, 127 when it cannot be started.
pub fn main(args: impl IntoIterator<Item = OsString>) -> i32 {
    let mut args = args.into_iter().skip_while(|arg| arg != "--").skip(1);
    let Some(program) = args.next() else { return 127 };
    // Orphans of the tree become our children, so that they can be found and ended.
    if rustix::process::set_child_subreaper(Some(rustix::process::getpid())).is_err() {
        return 127;
    }
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).process_group(0);
    die_with_parent(&mut command);
    let Ok(mut child) = command.spawn() else { return 127 };
    let closed = watch_stdin();
    let code = wait(&mut child, &closed);
    end_descendants();
    code
}

fn wait(child: &mut Child, closed: &AtomicBool) -> i32 {
    let mut asked: Option<Instant> = None;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => {
                return status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
            }
            Ok(None) => {}
            Err(_) => return 127,
        }
        match asked {
            None if closed.load(Ordering::Acquire) => {
                asked = Some(Instant::now());
                if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
                    let _ = rustix::process::kill_process_group(pid, Signal::TERM);
                }
            }
            Some(since) if since.elapsed() > GRACE => end_descendants(),
            _ => {}
        }
        std::thread::sleep(TICK);
    }
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
