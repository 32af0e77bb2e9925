//! What becomes of builds that were killed. Packer's own clean-up has run by then, or never will; what it told of before it
//! ended is finished or deleted, and what can be traced of what it had begun is deleted. The rest cannot be found: a
//! template's builders mark nothing as ours.

mod told;
mod unseen;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use chrono::Utc;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(super) use self::told::{MADE, Told};
pub(super) use self::unseen::in_words;

use super::trace::Traced;
use super::{CLOUD, Templates, records, told};
use crate::domain::causes;
use crate::domain::{BackendError, Made};
use crate::journal::{Entry, Journal, JournalError, Record};
use crate::process::private;

/// How long a build waits for what a killed one left to go.
const RECOVERING: Duration = Duration::from_secs(60);
/// How long what is told to stop may go on: requests that are under way are tried again.
const STOPPING: Duration = Duration::from_secs(5 * 60);

/// How a killed build is ended, as the journal has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Left {
    /// Where Packer ran.
    pub(super) directory: PathBuf,
    /// Packer's temporary files.
    pub(super) tmp: PathBuf,
    /// The build's log.
    pub(super) log: PathBuf,
    /// The user's configuration.
    pub(super) inputs: Value,
}

/// What became of a killed build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// What was deleted, or would be.
    pub deleted: Vec<String>,
    /// The image, when it is whole and there now.
    pub completed: Option<String>,
    /// What is not seen, and may be in another account than ours: the build's entry stays.
    pub unseen: Vec<String>,
}

impl Settled {
    /// In words, for a log.
    fn lines(&self, build: Uuid) -> Vec<String> {
        let deleted =
            self.deleted.iter().map(|one| format!("Deleted what the killed build {build} had made: {one}"));
        let completed =
            self.completed.iter().map(|one| format!("The killed build {build} had made image {one}"));
        let unseen = self.unseen.iter().map(|one| format!("Build {build} stays in the journal: {one}"));
        deleted.chain(completed).chain(unseen).collect()
    }
}

impl Templates {
    /// Ends builds of this computer that nobody works on any more. Returns what is to be told of them. What cannot be
    /// ended stays in the journal.
    pub(super) async fn recover(&self, cancel: &CancellationToken) -> Vec<String> {
        let mut lines = Vec::new();
        let abandoned = Journal::open(&self.data_dir).abandoned();
        for record in abandoned.into_iter().flatten().filter(|record| record.entry().cloud == CLOUD) {
            let build = record.entry().build;
            let stop = cancel.child_token();
            match within(RECOVERING, &stop, self.settle(record, false, &stop)).await {
                Ok(settled) => lines.extend(settled.lines(build)),
                Err(error) => {
                    lines.push(format!("What build {build} left cannot be deleted yet: {}", causes(&error)));
                }
            }
        }
        lines
    }

    /// Entries of the journal that are ours and that nobody works on.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn abandoned(&self) -> Result<Vec<Record>, JournalError> {
        let mut all = Journal::open(&self.data_dir).abandoned()?;
        all.retain(|record| record.entry().cloud == CLOUD);
        Ok(all)
    }

    /// Ends a build: an image that is whole is kept for whoever asks for it next, all else that Packer told of is deleted.
    ///
    /// # Errors
    /// When something cannot be deleted: the entry stays.
    pub async fn settle(
        &self,
        record: Record,
        dry_run: bool,
        cancel: &CancellationToken,
    ) -> Result<Settled, BackendError> {
        let entry = record.entry().clone();
        let Ok(left) = serde_json::from_value::<Left>(entry.access.clone()) else {
            let problem = io::Error::other("its entry is of another version of the provider");
            return Err(BackendError::failed(format!("ending build {}", entry.build), problem));
        };
        let dir = self.build_dir(entry.build);
        if !dir.exists() {
            // It had not come to Packer, or was at its end: only the entry could not be removed.
            return end(record, dry_run).map(|()| Settled::default());
        }
        let mut told_of = self.told_of(&dir, &left)?;
        let is_image = entry.share && told_of.whole;
        let traced = match is_image {
            true => Traced::nothing(),
            false => self.trace(&mut told_of, &left.log, entry.started_at).await,
        };
        let there = self.look(&told_of.made).await?;
        let mut unseen = self.unseen(&mut told_of, &there, &left.log).await?;
        unseen.extend(traced.lost);
        let mut settled = Settled { unseen: in_words(&unseen, record.path()), ..Settled::default() };
        if !dry_run {
            told_of.note(&dir, &unseen);
        }
        if !unseen.is_empty() && is_image {
            // It may be whole in its own account: whoever has the credentials finishes it.
            return Ok(settled);
        }
        let made = told_of.made;
        if is_image && !made.is_empty() && there.len() == made.len() {
            settled.completed = Some(entry.name.clone());
            if !dry_run {
                self.keep(&of_entry(&entry, &left, made)).map_err(unwritable)?;
            }
        } else {
            settled.deleted = there.iter().map(|(one, _)| told(one)).collect();
            if !dry_run {
                // Killed after it was written down: nobody is to find an image that is half gone.
                self.records().remove(entry.build).map_err(unwritable)?;
                self.delete(entry.build, &made, cancel).await?;
            }
        }
        traced.outcome?;
        if !dry_run && unseen.is_empty() {
            crate::process::leftover::end_those_of(&left.tmp);
            private::remove_build_dir(&left.tmp);
            private::remove_build_dir(&dir);
            let lock = self.data_dir.join("locks").join(format!("{CLOUD}-{}", entry.key));
            if let Ok(Some(_held)) = crate::process::lock::try_open(&lock) {
                let _ = fs::remove_file(&lock);
            }
            end(record, dry_run)?;
        }
        Ok(settled)
    }

    /// Writes an image down. A record that has the same files is of an image that was overwritten.
    pub(super) fn keep(&self, record: &records::Record) -> io::Result<()> {
        let records = self.records();
        records.put(record)?;
        let has = |path: &PathBuf| record.made.iter().any(|one| one.files.contains(path));
        for other in records.all()?.into_iter().filter(|other| other.id != record.id) {
            if other.made.iter().flat_map(|one| &one.files).any(has) {
                records.remove(other.id)?;
            }
        }
        Ok(())
    }
}

/// Waits for something, and tells it to stop when the time is over: cut off amid a deletion, it would lose sight of what
/// there is still to delete. What does not stop is cut off.
pub(super) async fn within<T>(
    time: Duration,
    stop: &CancellationToken,
    doing: impl Future<Output = Result<T, BackendError>>,
) -> Result<T, BackendError> {
    tokio::pin!(doing);
    if let Ok(done) = tokio::time::timeout(time, &mut doing).await {
        return done;
    }
    stop.cancel();
    match tokio::time::timeout(STOPPING, doing).await {
        Err(_) | Ok(Err(BackendError::Cancelled { .. })) => {
            let late = io::Error::other(format!("it took longer than {time:?}"));
            Err(BackendError::failed("waiting", late))
        }
        Ok(done) => done,
    }
}

fn end(record: Record, dry_run: bool) -> Result<(), BackendError> {
    if dry_run {
        return Ok(());
    }
    record.end().map_err(|error| BackendError::failed("ending a build's entry in the journal", error))
}

fn of_entry(entry: &Entry, left: &Left, made: Vec<Made>) -> records::Record {
    let now = Utc::now();
    records::Record {
        id: entry.build,
        name: entry.name.clone(),
        key: entry.key.clone(),
        made,
        created_at: now,
        build_seconds: (now - entry.started_at).num_seconds().try_into().unwrap_or_default(),
        log_path: left.log.clone(),
        holders: BTreeSet::new(),
        inputs: left.inputs.clone(),
    }
}

fn unwritable(error: io::Error) -> BackendError {
    BackendError::failed("writing the record of an image", error)
}

#[cfg(test)]
mod tests;
