//! Runs a command whose output goes to a file that we read along.
//!
//! For programs that must be able to write to the end, whatever becomes of us: with a pipe that nobody reads any
//! more they would lose their own clean-up. Knows nothing of what the lines say.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::FallocateFlags;
use tokio::process::Child;

use super::hand_over::HandOver;
use super::lines::Lines;
use super::run::{code, find};
use super::supervise::Ending;
use super::{Command, Limits, ProcessError, Runner};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// The longest line that is handed on whole; the rest of a longer one is cut.
const LONGEST_LINE: usize = 64 * 1024;
/// How much is read at once.
const CHUNK: usize = 64 * 1024;

/// How a command with its output in a file is run.
#[derive(Debug, Clone, Copy)]
pub struct Following<'a> {
    /// Where its output goes (0600).
    pub output: &'a Path,
    /// Whether all of it stays there. Otherwise what is read takes up no space on the disk any more.
    pub keep: bool,
    /// How it is ended when cancelled, too late, or left alone by us.
    pub ending: Ending,
    /// What is to be done after it when we are not there any more.
    pub then: Option<HandOver<'a>>,
}

impl Runner {
    /// Runs the command to its end and hands on each line as it is printed. Returns the exit code. When cancelled
    /// the lines of its clean-up are handed on, too. Once it has started, this returns when it has ended.
    ///
    /// # Errors
    /// When it cannot be started, takes too long or is cancelled, or its output cannot be read. An exit code other than 0
    /// is *not* an error.
    pub async fn follow(
        &self,
        command: &Command,
        following: &Following<'_>,
        limits: &Limits,
        mut line: impl FnMut(&str) + Send,
    ) -> Result<i32, ProcessError> {
        let program = command.name();
        find(command)?;
        let start = |source| ProcessError::Start { program: program.clone(), source };
        let tail = Tail::open(following.output, following.keep).map_err(start)?;
        let mut supervised = self.supervised(command, following.ending, following.then);
        let output = tail.writer().map_err(start)?;
        supervised.stdout(output.try_clone().map_err(start)?).stderr(output);
        let child = supervised.spawn().map_err(start)?;
        attend(&program, child, tail, limits, &mut line).await
    }
}

/// Waits for the program's end, whatever else fails: what it still cleans up is not to be taken for abandoned.
async fn attend(
    program: &str,
    mut child: Child,
    mut tail: Tail,
    limits: &Limits,
    line: &mut (impl FnMut(&str) + Send),
) -> Result<i32, ProcessError> {
    let program = program.to_owned();
    // Closing this pipe is what tells the supervisor to end the program, so even a dropped future does.
    let mut lifeline = child.stdin.take();
    let limit = limits.timeout.unwrap_or(Duration::MAX);
    let timeout = tokio::time::sleep(limit);
    tokio::pin!(timeout);
    let mut early = None;
    // More than being cancelled: what the program told is not known.
    let unread = |source| Some(ProcessError::Unread { program: program.clone(), source });
    let status = loop {
        tokio::select! {
            status = child.wait() => {
                break status.map_err(|source| ProcessError::Start { program: program.clone(), source })?;
            }
            () = limits.cancel.cancelled(), if early.is_none() => {
                early = Some(ProcessError::Cancelled { program: program.clone() });
            }
            () = &mut timeout, if early.is_none() => {
                early = Some(ProcessError::Timeout { program: program.clone(), limit });
            }
            () = tokio::time::sleep(LOOK) => early = tail.read(line).err().and_then(unread).or(early),
        }
        if early.is_some() {
            lifeline = None;
        }
    };
    drop(lifeline);
    early = tail.read(line).err().and_then(unread).or(early);
    tail.lines.finish(line);
    early.map_or(Ok(code(status)), Err)
}

/// The file, read up to some place.
struct Tail {
    file: File,
    keep: bool,
    read: u64,
    lines: Lines,
}

impl Tail {
    fn open(path: &Path, keep: bool) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.create(true).read(true).append(true).mode(0o600).open(path)?;
        file.set_len(0)?;
        Ok(Self { file, keep, read: 0, lines: Lines::new(LONGEST_LINE) })
    }

    /// What the program writes to: always at the end.
    fn writer(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    fn read(&mut self, line: &mut impl FnMut(&str)) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        let before = self.read;
        loop {
            // The position is shared with the program's descriptor, so we say where we read.
            let read = std::os::unix::fs::FileExt::read_at(&self.file, &mut chunk, self.read)?;
            if read == 0 {
                break;
            }
            self.read += read as u64;
            self.lines.take(&chunk[..read], |text| {
                if !text.is_empty() {
                    line(text);
                }
            });
        }
        if self.read > before && !self.keep {
            // A chatty program does not fill the disk. Where the file system cannot do this, it stays.
            let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let _ = rustix::fs::fallocate(&self.file, punch, 0, self.read);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn a_program_whose_output_cannot_be_read_is_ended_and_awaited() {
        let dir = tempfile::tempdir().unwrap();
        let ended = dir.path().join("ended");
        // Ends as a supervisor does, when its standard input closes; its clean-up takes a while.
        let script = format!("cat >/dev/null; sleep 0.3; : >'{}'", ended.display());
        let mut command = tokio::process::Command::new("sh");
        let child = command.args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap();
        let write_only = File::create(dir.path().join("output")).unwrap();
        let tail = Tail { file: write_only, keep: true, read: 0, lines: Lines::new(LONGEST_LINE) };
        let limits = Limits::cancelled_by(&CancellationToken::new());
        let error = attend("sh", child, tail, &limits, &mut |_: &str| {}).await.unwrap_err();
        assert!(matches!(error, ProcessError::Unread { .. }), "{error}");
        assert!(ended.exists(), "it was left alone");
    }
}
