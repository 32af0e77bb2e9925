//! What builds and launches in a cloud have begun: one file each, on the disk before anything is asked for, and gone only
//! when nothing of it can be lost.
//!
//! A build's lock is held as long as somebody works on it, by the provider and by the supervisor of its program. An
//! entry whose lock is free is abandoned: whoever finds it finishes what was begun. Knows no backend: how a cloud is
//! reached is in the backend's own words.

mod entry;
mod launch;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

pub use entry::{Entry, Phase};
pub use launch::Launch;

use crate::process::{lock, private};

/// An entry has a few kilobytes; a file beyond this is none.
const LONGEST: u64 = 1 << 20;
/// How long a new build waits for its lock: who looks for abandoned builds has each lock for a moment.
const PATIENCE: Duration = Duration::from_secs(1);
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(5);
/// A lock without an entry is what a crash left only when it is older: a build that begins makes its lock first.
const BEGINNING: Duration = Duration::from_secs(60);

/// Why the journal cannot be kept. A build must not go on without it.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system refuses.
    #[error(
        "cannot {what} {path}, where what a build makes is written down\nSee that `data_dir` is on a disk with space, and yours"
    )]
    Io {
        /// "read", "write", "lock".
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Two builds with one id.
    #[error(
        "build {build} is in the journal already\nRun `terraform-provider-sindri sweep`, then build again"
    )]
    Taken {
        /// The id.
        build: Uuid,
    },
    /// Only an entry of a journal can be worked on.
    #[error("{path} is no entry of a journal\nName a file `journal/BUILD.json` below `data_dir`")]
    NoEntry {
        /// What was named.
        path: PathBuf,
    },
}

/// What is written down of something that was begun.
pub trait Begun: Serialize + DeserializeOwned {
    /// Its id.
    fn id(&self) -> Uuid;

    /// When it began.
    fn started_at(&self) -> DateTime<Utc>;
}

/// The journal of one `data_dir`, of builds or of launches.
#[derive(Debug, Clone)]
pub struct Journal<E = Entry> {
    dir: PathBuf,
    entries: PhantomData<fn() -> E>,
}

impl Journal {
    /// The journal of builds below a folder. Touches nothing.
    pub fn open(data_dir: &Path) -> Self {
        Self::at(data_dir.join("journal"))
    }
}

impl Journal<Launch> {
    /// The journal of launches below a folder. Touches nothing.
    pub fn of_launches(data_dir: &Path) -> Self {
        Self::at(data_dir.join("launches"))
    }
}

impl<E: Begun> Journal<E> {
    fn at(dir: PathBuf) -> Self {
        Self { dir, entries: PhantomData }
    }

    /// Writes down what is about to be begun. When this returns, it is on the disk.
    ///
    /// # Errors
    /// When it cannot be written: nothing may be asked of the cloud then.
    pub fn begin(&self, entry: E) -> Result<Record<E>, JournalError> {
        private::create_dir(&self.dir).map_err(failed("make", &self.dir))?;
        let id = entry.id();
        let taken = JournalError::Taken { build: id };
        let Some(lock) = self.lock_of_new(id)? else { return Err(taken) };
        let path = self.path(id);
        if path.exists() {
            return Err(taken);
        }
        let record = Record { path, lock_path: self.lock_path(id), entry, lock };
        if let Err(error) = record.write() {
            // Nothing was begun: the next one need not look for it.
            let _ = record.end();
            return Err(error);
        }
        if let Some(above) = self.dir.parent() {
            private::sync_dir(above).map_err(failed("write", above))?;
        }
        Ok(record)
    }

    /// Entries that nobody works on any more, the oldest first. They are ours now, until they are dropped. What is no
    /// entry is set aside.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn abandoned(&self) -> Result<Vec<Record<E>>, JournalError> {
        let mut found = Vec::new();
        for build in self.builds()? {
            found.extend(self.adopt(build)?);
        }
        found.sort_by_key(|record| (record.entry.started_at(), record.entry.id()));
        Ok(found)
    }

    /// Whether a build has an entry, whoever works on it: what becomes of it is decided here.
    pub fn knows(&self, build: Uuid) -> bool {
        self.path(build).exists()
    }

    /// Builds with an entry, or with something that a crash left of one.
    fn builds(&self) -> Result<BTreeSet<Uuid>, JournalError> {
        let names = match fs::read_dir(&self.dir) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(failed("read", &self.dir)(error)),
        };
        let names = names.collect::<io::Result<Vec<_>>>().map_err(failed("read", &self.dir))?;
        let build = |name: &fs::DirEntry| name.file_name().to_str()?.split('.').next()?.parse().ok();
        let is_meant = |name: &fs::DirEntry, build| self.knows(build) || is_old(name);
        let builds = names.iter().filter_map(|name| build(name).filter(|build| is_meant(name, *build)));
        Ok(builds.collect())
    }

    /// A build's entry, unless somebody works on it or there is none.
    fn adopt(&self, build: Uuid) -> Result<Option<Record<E>>, JournalError> {
        let Some(lock) = self.lock(build)? else { return Ok(None) };
        let (path, lock_path) = (self.path(build), self.lock_path(build));
        match read(&path, build) {
            Ok(Some(entry)) => return Ok(Some(Record { path, lock_path, entry, lock })),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => self.set_aside(&path, &error)?,
            Err(error) => return Err(failed("read", &path)(error)),
        }
        // What a crash left before the entry was there, or after it was gone.
        self.remove_unfinished(build);
        let _ = fs::remove_file(&lock_path);
        Ok(None)
    }

    /// The lock of a build that has no entry yet; `None` when it has one, or somebody keeps the lock.
    fn lock_of_new(&self, build: Uuid) -> Result<Option<File>, JournalError> {
        let since = Instant::now();
        loop {
            let lock = self.lock(build)?;
            if lock.is_some() || self.knows(build) || since.elapsed() > PATIENCE {
                return Ok(lock);
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn lock(&self, build: Uuid) -> Result<Option<File>, JournalError> {
        let path = self.lock_path(build);
        lock::try_open(&path).map_err(failed("lock", &path))
    }

    /// A person may still read in it which region to look at; what the build made is found by its deadline.
    fn set_aside(&self, path: &Path, error: &io::Error) -> Result<(), JournalError> {
        let aside = self.dir.join("damaged");
        private::create_dir(&aside).map_err(failed("make", &aside))?;
        let name = aside.join(path.file_name().unwrap_or_default());
        fs::rename(path, &name).map_err(failed("write", &name))?;
        tracing::warn!(file = %name.display(), %error, "a damaged journal entry is set aside: what its build made is removed by `sweep` when the build's deadline has passed");
        Ok(())
    }

    fn remove_unfinished(&self, build: Uuid) {
        let prefix = format!("{build}.json.");
        for name in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if name.file_name().to_string_lossy().starts_with(&prefix) {
                let _ = fs::remove_file(name.path());
            }
        }
    }

    fn path(&self, build: Uuid) -> PathBuf {
        self.dir.join(format!("{build}.json"))
    }

    /// Beside the entry: writing an entry gives its name to another file, and a lock is on a file, not a name.
    fn lock_path(&self, build: Uuid) -> PathBuf {
        self.dir.join(format!("{build}.lock"))
    }
}

/// An entry that is ours. Dropping it leaves the entry to whoever comes next.
#[derive(Debug)]
pub struct Record<E = Entry> {
    path: PathBuf,
    lock_path: PathBuf,
    entry: E,
    lock: File,
}

impl Record {
    /// The entry in this file; `None` when it is gone, or somebody works on it.
    ///
    /// # Errors
    /// When the file is not in a journal or cannot be read.
    pub fn take(file: &Path) -> Result<Option<Self>, JournalError> {
        let build = file.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        let (Some(build), Some(dir)) = (build, file.parent().filter(|dir| dir.ends_with("journal"))) else {
            return Err(JournalError::NoEntry { path: file.to_owned() });
        };
        let journal = Journal::at(dir.to_owned());
        if journal.path(build).exists() { journal.adopt(build) } else { Ok(None) }
    }

    /// The build got further. When this returns, that is on the disk.
    ///
    /// # Errors
    /// When it cannot be written: the entry stays as it was.
    pub fn advance(&mut self, phase: Phase) -> Result<(), JournalError> {
        let before = std::mem::replace(&mut self.entry.phase, phase);
        self.write().inspect_err(|_| self.entry.phase = before)
    }

    /// What becomes of the image when it is finished without us has changed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn label(&mut self, tags: impl IntoIterator<Item = (String, String)>) -> Result<(), JournalError> {
        self.entry.tags.extend(tags);
        self.write()
    }
}

impl<E: Begun> Record<E> {
    /// What is written down.
    pub fn entry(&self) -> &E {
        &self.entry
    }

    /// The entry's file, to be handed over.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The lock: whoever has a copy of this descriptor works on the build, too.
    pub fn lock_fd(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    /// Nothing of the build can be lost any more.
    ///
    /// # Errors
    /// When the entry cannot be removed: the image must not be handed on then, for it will be taken for abandoned.
    pub fn end(self) -> Result<(), JournalError> {
        private::remove_file(&self.path).map_err(failed("remove", &self.path))?;
        // The lock's file last, and before the lock is released: nobody has a lock without a name.
        let _ = fs::remove_file(&self.lock_path);
        self.sync()
    }

    fn write(&self) -> Result<(), JournalError> {
        let write = failed("write", &self.path);
        let text = serde_json::to_vec_pretty(&self.entry).map_err(|error| write(error.into()))?;
        private::write(&self.path, &text).map_err(failed("write", &self.path))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), JournalError> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        private::sync_dir(dir).map_err(failed("write", dir))
    }
}

/// Whether a file was there before any build that begins now.
fn is_old(name: &fs::DirEntry) -> bool {
    let modified = name.metadata().and_then(|it| it.modified());
    modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > BEGINNING))
}

/// An entry; `None` when there is none, and `InvalidData` when the file is something else.
fn read<E: Begun>(path: &Path, build: Uuid) -> io::Result<Option<E>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let no_entry = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut bytes = Vec::new();
    if file.take(LONGEST + 1).read_to_end(&mut bytes)? as u64 > LONGEST {
        return Err(no_entry("it is too long".to_owned()));
    }
    let entry: E = serde_json::from_slice(&bytes).map_err(|error| no_entry(error.to_string()))?;
    if entry.id() != build {
        return Err(no_entry(format!("it is of {}", entry.id())));
    }
    Ok(Some(entry))
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError + use<> {
    let path = path.to_owned();
    move |source| JournalError::Io { what, path, source }
}
