//! Runs a command under our supervisor, its output into the build's log.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::command::passed;
use super::hand_over::{self, HandOver};
use super::supervise::Ending;
use super::{BuildLog, Command, Output, Stream, tail};

/// Starts programs such that none outlives the provider: each runs as the child of our own binary in
/// `supervise` mode, which holds a pipe to us and ends the whole tree when the pipe closes.
#[derive(Debug, Clone)]
pub struct Runner {
    supervisor: PathBuf,
}

/// What bounds a run.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Ends the run early when cancelled.
    pub cancel: CancellationToken,
    /// The longest time that the program may take.
    pub timeout: Option<Duration>,
}

impl Limits {
    /// Bounded by cancellation alone.
    pub fn cancelled_by(cancel: &CancellationToken) -> Self {
        Self { cancel: cancel.clone(), timeout: None }
    }
}

/// A program that ended on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The exit code; 128 + n after signal n, as a shell counts.
    pub code: i32,
    /// All output, redacted, for programs whose output is an answer. Bounded to 1 MiB.
    pub output: String,
}

impl Finished {
    /// The last lines of its output.
    pub fn tail(&self, count: usize) -> String {
        tail::last(self.output.lines(), count)
    }
}

/// How long what a program printed may still come when it has ended. Longer only where its supervisor was killed, and something
/// that the program had started lives on.
const REST: Duration = Duration::from_secs(10);

/// How many of a failed program's last lines an error has.
const TAIL: usize = 20;

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program is not there.
    #[error("{program} is not installed or not in PATH")]
    Missing {
        /// The program's name.
        program: String,
    },
    /// The program could not be started.
    #[error("could not start {program}")]
    Start {
        /// The program's name.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What it printed cannot be read. It was ended.
    #[error("could not read what {program} printed, and stopped it")]
    Unread {
        /// The program's name.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended with an exit code other than 0.
    #[error("{program} failed with exit code {code}")]
    Failed {
        /// The program's name.
        program: String,
        /// As a shell counts: 128 + n after signal n.
        code: i32,
        /// What it printed last.
        tail: String,
    },
    /// It took too long and was ended.
    #[error("{program} was stopped after {limit:?}, its time limit")]
    Timeout {
        /// The program's name.
        program: String,
        /// The time that it had.
        limit: Duration,
    },
    /// The operation was cancelled.
    #[error("{program} was stopped because the operation was cancelled")]
    Cancelled {
        /// The program's name.
        program: String,
    },
}

impl Runner {
    /// With the given binary as supervisor: one that runs [`super::supervise::main`] when its first
    /// argument is `supervise`.
    pub fn new(supervisor: impl Into<PathBuf>) -> Self {
        Self { supervisor: supervisor.into() }
    }

    /// With the running binary as supervisor.
    ///
    /// # Errors
    /// When the operating system does not tell our own path.
    pub fn this_binary() -> io::Result<Self> {
        std::env::current_exe().map(Self::new)
    }

    /// The binary that serves as supervisor, which also knows the way into namespaces ([`super::enter`]).
    pub fn supervisor(&self) -> &Path {
        &self.supervisor
    }

    /// Runs the command to its end, its output line by line into `log`.
    ///
    /// # Errors
    /// When it cannot be started, takes too long or is cancelled. An exit code other than 0 is *not* an
    /// error here; see [`Runner::check`].
    pub async fn run(
        &self,
        command: &Command,
        log: Option<&BuildLog>,
        limits: &Limits,
    ) -> Result<Finished, ProcessError> {
        let program = command.name();
        find(command)?;
        let start = |source| ProcessError::Start { program: program.clone(), source };
        let (reader, writer) = io::pipe().map_err(start)?;
        let mut supervised = self.supervised(command, Ending::default(), None);
        supervised.stdout(writer.try_clone().map_err(start)?).stderr(writer);
        let mut child = supervised.spawn().map_err(start)?;
        // It holds our copies of the pipe's end, which must be gone for the pipe to end.
        drop(supervised);
        // Closing this pipe is what tells the supervisor to end the tree, so even a dropped future does.
        let lifeline = child.stdin.take();
        // Goes on when we are dropped: what the program prints while it cleans up is read.
        let output = tokio::spawn(collect(reader.into(), log.cloned()));
        let timeout = limits.timeout.unwrap_or(Duration::MAX);
        let ended = tokio::select! {
            status = child.wait() => Ok(status.map_err(start)?),
            () = limits.cancel.cancelled() => Err(ProcessError::Cancelled { program: program.clone() }),
            () = tokio::time::sleep(timeout) => Err(ProcessError::Timeout { program: program.clone(), limit: timeout }),
        };
        drop(lifeline);
        if ended.is_err() {
            // The supervisor ends by itself within its grace period.
            let _ = child.wait().await;
        }
        let output = rest(output).await;
        ended.map(|status| Finished { code: code(status), output })
    }

    /// Like [`Runner::run`], and an exit code other than 0 is an error.
    ///
    /// # Errors
    /// Those of [`Runner::run`], and [`ProcessError::Failed`].
    pub async fn check(
        &self,
        command: &Command,
        log: Option<&BuildLog>,
        limits: &Limits,
    ) -> Result<String, ProcessError> {
        let finished = self.run(command, log, limits).await?;
        if finished.code == 0 {
            return Ok(finished.output);
        }
        Err(ProcessError::Failed { program: command.name(), code: finished.code, tail: finished.tail(TAIL) })
    }

    /// The command under our supervisor, whose lifeline is its standard input.
    pub(super) fn supervised(
        &self,
        command: &Command,
        ending: Ending,
        then: Option<HandOver<'_>>,
    ) -> tokio::process::Command {
        let mut child = tokio::process::Command::new(&self.supervisor);
        child.arg("supervise").args(ending.args()).args(then.iter().flat_map(hand_over::args));
        child.arg("--").arg(&command.program).args(&command.args);
        surround(&mut child, command);
        if let Some(then) = then {
            then.give_to(&mut child);
        }
        child.stdin(Stdio::piped());
        child
    }
}

/// A program that outlives us, and our view of its first moments. Dropping this leaves it alone; what it
/// prints from then on goes nowhere.
#[derive(Debug)]
pub struct Detached {
    program: String,
    child: tokio::process::Child,
    output: AbortOnDropHandle<String>,
}

impl Detached {
    /// Starts the program.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &Command) -> Result<Self, ProcessError> {
        let program = command.name();
        find(command)?;
        let start = |source| ProcessError::Start { program: program.clone(), source };
        let (reader, writer) = io::pipe().map_err(start)?;
        let mut child = tokio::process::Command::new(&command.program);
        child.args(&command.args);
        surround(&mut child, command);
        child.stdin(Stdio::null()).stdout(writer.try_clone().map_err(start)?).stderr(writer);
        let running = child.spawn().map_err(start)?;
        let output = AbortOnDropHandle::new(tokio::spawn(collect(reader.into(), None)));
        Ok(Self { program, child: running, output })
    }

    /// Waits for its end, which for such a program is a failure.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub async fn wait(&mut self) -> Result<Finished, ProcessError> {
        let program = &self.program;
        let lost = |source| ProcessError::Start { program: program.clone(), source };
        let status = self.child.wait().await.map_err(lost)?;
        let output = rest(&mut self.output).await;
        Ok(Finished { code: code(status), output })
    }

    /// Kills it after all.
    pub async fn kill(mut self) {
        let _ = self.child.kill().await;
    }
}

/// The environment, the folder and the process group of a child.
fn surround(child: &mut tokio::process::Command, command: &Command) {
    child.env_clear();
    child.envs(passed().filter_map(|name| Some((name, std::env::var_os(name)?))));
    child.env("PATH", search_path());
    child.envs(&command.env);
    if let Some(cwd) = &command.cwd {
        child.current_dir(cwd);
    }
    // The host's Ctrl-C goes to the whole process group; we decide ourselves when a child ends.
    child.process_group(0);
}

/// A missing program is told apart before a supervisor is started for it.
pub(super) fn find(command: &Command) -> Result<(), ProcessError> {
    let program = &command.program;
    let found =
        if program.components().count() > 1 { program.exists() } else { !programs(program).is_empty() };
    if found { Ok(()) } else { Err(ProcessError::Missing { program: command.name() }) }
}

/// The programs of this name, those first that are found first.
pub fn programs(name: impl AsRef<Path>) -> Vec<PathBuf> {
    programs_in(&search_path(), name)
}

/// The programs of this name in these folders.
pub fn programs_in(path: &OsStr, name: impl AsRef<Path>) -> Vec<PathBuf> {
    let paths = std::env::split_paths(path).map(|dir| dir.join(&name));
    paths.filter(|path| path.is_file()).collect()
}

/// Where programs are looked for: `PATH` with the folders of system programs (`mke2fs`), which an ordinary user's lacks on
/// Debian.
pub fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    path
}

/// As a shell counts.
pub(super) fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// What a program printed that has ended.
async fn rest(output: impl Future<Output = Result<String, JoinError>>) -> String {
    tokio::time::timeout(REST, output).await.map_or_else(|_| String::new(), Result::unwrap_or_default)
}

/// Reads output to its end.
async fn collect(reader: std::os::fd::OwnedFd, log: Option<BuildLog>) -> String {
    let mut output = Output::new(log.as_ref());
    if let Ok(mut reader) = pipe::Receiver::from_owned_fd(reader) {
        let mut chunk = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = reader.read(&mut chunk).await {
            output.take(Stream::Out, &chunk[..read]);
        }
    }
    output.finish()
}
