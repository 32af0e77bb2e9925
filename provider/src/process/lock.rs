//! Locks between processes, each on a file or folder of its own.
//!
//! The kernel releases a lock with the last process that holds it, so a crash leaves none behind.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use tokio_util::sync::CancellationToken;

/// How often a lock that somebody else holds is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// With whom a lock is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// With others that only read.
    Shared,
    /// With nobody.
    Exclusive,
}

/// What came of trying to take a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is ours.
    Ours,
    /// Somebody has it.
    Busy,
    /// Somebody had it and has removed the file: a lock on a file without a name is worth nothing.
    Ended,
}

/// A lock that somebody else held until the wait for it was given up.
#[derive(Debug, thiserror::Error)]
#[error("gave up after {} s: {holder} holds the lock {}. {}", .waited.as_secs(), .path.display(), .holder.remedy())]
pub struct Busy {
    path: PathBuf,
    waited: Duration,
    holder: Holder,
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Holder {
    /// Another task of this process.
    Ourselves,
    /// Another process.
    Process { id: u32, program: Option<String> },
    /// Somebody whom the system does not tell us.
    Unknown,
}

/// Opens a lock's file (0600), making it if need be.
///
/// # Errors
/// What the file system says.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)
}

/// Takes the lock on a file or folder that is open; false while somebody holds it in a way that excludes ours.
///
/// # Errors
/// What the file system says.
pub fn try_lock(file: &File, how: How) -> io::Result<bool> {
    let operation = match how {
        How::Shared => FlockOperation::NonBlockingLockShared,
        How::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    match rustix::fs::flock(file, operation) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Tries to take a lock whose file goes with it, without waiting.
///
/// # Errors
/// What the file system says.
pub fn take(file: &File, path: &Path) -> io::Result<Taken> {
    if !try_lock(file, How::Exclusive)? {
        return Ok(Taken::Busy);
    }
    let held = file.metadata()?.ino();
    let named = fs::metadata(path).is_ok_and(|named| named.ino() == held);
    Ok(if named { Taken::Ours } else { Taken::Ended })
}

/// Opens and takes a lock whose file goes with it; `None` while somebody has it. It is held as long as the file is open.
///
/// # Errors
/// What the file system says.
pub fn try_open(path: &Path) -> io::Result<Option<File>> {
    loop {
        let file = open(path)?;
        match take(&file, path)? {
            Taken::Ours => return Ok(Some(file)),
            Taken::Busy => return Ok(None),
            Taken::Ended => {}
        }
    }
}

/// Tries until it has the lock on what is at `path`.
///
/// # Errors
/// What a try ends with, and what `given_up` makes of who holds the lock when cancelled.
pub async fn wait<T, E>(
    path: &Path,
    cancel: &CancellationToken,
    mut attempt: impl FnMut() -> Result<Option<T>, E>,
    given_up: impl FnOnce(Busy) -> E,
) -> Result<T, E> {
    let since = Instant::now();
    loop {
        if let Some(taken) = attempt()? {
            return Ok(taken);
        }
        tokio::select! {
            () = cancel.cancelled() => return Err(given_up(Busy::on(path, since))),
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

/// The same on a thread that may block.
///
/// # Errors
/// Those of [`wait`].
pub fn wait_blocking<T, E>(
    path: &Path,
    cancel: &CancellationToken,
    mut attempt: impl FnMut() -> Result<Option<T>, E>,
    given_up: impl FnOnce(Busy) -> E,
) -> Result<T, E> {
    let since = Instant::now();
    loop {
        if let Some(taken) = attempt()? {
            return Ok(taken);
        }
        if cancel.is_cancelled() {
            return Err(given_up(Busy::on(path, since)));
        }
        std::thread::sleep(RETRY);
    }
}

impl Busy {
    fn on(path: &Path, since: Instant) -> Self {
        Self { path: path.to_owned(), waited: since.elapsed(), holder: Holder::of(path) }
    }
}

impl Holder {
    /// As the kernel lists it. The number of a file is not unique: whoever holds it must have it open, too.
    fn of(path: &Path) -> Self {
        let Ok(file) = fs::metadata(path) else { return Self::Unknown };
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        let listed = locks.lines().filter_map(|line| holder(line, file.ino()));
        let has_open = |id: &u32| {
            let open = fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten();
            open.filter_map(|fd| fs::metadata(fd.path()).ok())
                .any(|it| (it.dev(), it.ino()) == (file.dev(), file.ino()))
        };
        match listed.into_iter().find(has_open) {
            Some(id) if id == std::process::id() => Self::Ourselves,
            Some(id) => Self::Process { id, program: program(id) },
            None => Self::Unknown,
        }
    }

    fn remedy(&self) -> &'static str {
        match self {
            Self::Ourselves => "Give this more time in `timeouts`, or apply again",
            _ => {
                "Let it finish and apply again, or give this more time in `timeouts`; should it hang, end it: the lock goes with it"
            }
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ourselves => f.write_str("another resource of this run"),
            Self::Process { id, program: Some(program) } => write!(f, "process {id} ({program})"),
            Self::Process { id, program: None } => write!(f, "process {id}"),
            Self::Unknown => f.write_str("another process"),
        }
    }
}

/// The process of a line of `/proc/locks` which says that the file with this number is locked:
/// `7: FLOCK  ADVISORY  WRITE 4242 fe:00:131 0 EOF`. A line of one who waits has an arrow in it.
fn holder(line: &str, inode: u64) -> Option<u32> {
    let mut words = line.split_whitespace().skip(1);
    let kind = words.next()?;
    let process = words.nth(2)?.parse().ok()?;
    let number = words.next()?.rsplit(':').next()?;
    (kind == "FLOCK" && number.parse() == Ok(inode)).then_some(process)
}

/// The name of the program that a process runs.
fn program(id: u32) -> Option<String> {
    let path = fs::read_link(format!("/proc/{id}/exe")).ok()?;
    Some(path.file_name()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_lock_names_its_holder() {
        for (line, expected) in [
            ("1: FLOCK  ADVISORY  WRITE 4242 fe:00:131 0 EOF", Some(4242)),
            ("1: FLOCK  ADVISORY  READ 7 00:2f:131 0 EOF", Some(7)),
            ("1: FLOCK  ADVISORY  WRITE 4242 fe:00:1310 0 EOF", None),
            ("1: -> FLOCK  ADVISORY  WRITE 4242 fe:00:131 0 EOF", None),
            ("1: POSIX  ADVISORY  WRITE 4242 fe:00:131 0 EOF", None),
            ("1: FLOCK  ADVISORY  WRITE -1 fe:00:131 0 EOF", None),
            ("", None),
        ] {
            assert_eq!(holder(line, 131), expected, "{line}");
        }
    }

    /// Waits in both ways for a lock on this file that is never released. Returns who is told to hold it.
    async fn busy(path: &Path) -> String {
        let file = open(path).unwrap();
        let attempt = || try_lock(&file, How::Exclusive).map(|taken| taken.then_some(())).map_err(|_| None);
        let cancel = CancellationToken::new();
        let (waiting, late) = (wait(path, &cancel, attempt, Some), async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            cancel.cancel();
        });
        let (waited, ()) = tokio::join!(waiting, late);
        let waited = waited.unwrap_err().unwrap().to_string();
        let blocked = wait_blocking(path, &cancel, attempt, Some).unwrap_err().unwrap().to_string();
        let [(long, waited), (_, blocked)] = [&waited, &blocked].map(|text| text.split_once(" s: ").unwrap());
        assert!(long.starts_with("gave up after "), "{long}");
        assert_eq!(blocked, waited);
        waited.to_owned()
    }

    #[tokio::test]
    async fn who_gives_up_is_told_who_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let mut other = Command::new("flock");
        other.arg("--no-fork").arg(&path).args(["sleep", "60"]).stdin(Stdio::null()).stdout(Stdio::null());
        let mut other = other.spawn().unwrap();
        while try_lock(&open(&path).unwrap(), How::Exclusive).unwrap() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let told = busy(&path).await;
        let expected =
            format!("process {} (sleep) holds the lock {}. Let it finish", other.id(), path.display());
        assert!(told.starts_with(&expected), "{told}");
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[tokio::test]
    async fn a_lock_of_our_own_is_no_other_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = try_open(&path).unwrap().unwrap();
        let told = busy(&path).await;
        assert!(told.starts_with("another resource of this run holds"), "{told}");
        drop(held);
    }
}
