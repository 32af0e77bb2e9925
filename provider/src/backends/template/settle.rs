//! What becomes of builds that were killed. Packer's own clean-up has run by then, or never will; what it told of before it
//! ended is finished or deleted, and what can be traced of what it had begun is deleted. The rest cannot be found: a
//! template's builders mark nothing as ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::Utc;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::build::{FOLDER, remove_dir};
use super::trace::{Doubtful, Traced};
use super::{CLOUD, Templates, records, told};
use crate::domain::backend::causes;
use crate::domain::{BackendError, Made, Seen};
use crate::journal::{Entry, Journal, JournalError, Record};
use crate::packer::{OUTPUT, Report, output};
use crate::process::private;

/// What Packer says that it made, in the build's folder.
pub(super) const MADE: &str = "made.json";
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

/// What Packer says that it made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    /// All of it.
    pub(super) made: Vec<Made>,
    /// Whether no build of the template failed.
    pub(super) whole: bool,
    /// Those that were seen in an account, and are about to be deleted: the account by the thing's id.
    #[serde(default)]
    pub(super) seen: BTreeMap<String, String>,
    /// What builders said that they make, and what is not found yet. `None` as long as nobody has looked for it.
    #[serde(default)]
    pub(super) doubtful: Option<Vec<Doubtful>>,
}

impl Told {
    /// Writes it into a build's folder.
    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        private::write(&dir.join(MADE), &serde_json::to_vec(self).map_err(io::Error::other)?)
    }
}

impl Told {
    /// Writes down what was seen, for what is deleted is not seen any more, before it is deleted. What cannot be written
    /// down stays in the journal then, as something that was never seen.
    pub(super) fn note(&self, dir: &Path, unseen: &[(Made, String)]) {
        if self.seen.is_empty() && unseen.is_empty() && self.doubtful.iter().all(Vec::is_empty) {
            return;
        }
        match self.write(dir) {
            // Values and output are of no use any more.
            Ok(()) => remove_dir(&dir.join(FOLDER)),
            Err(error) => {
                tracing::warn!(folder = %dir.display(), %error, "what is deleted cannot be written down");
            }
        }
    }
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
        let mut unseen = self.unseen(&mut told_of, &there).await?;
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
            remove_dir(&left.tmp);
            remove_dir(&dir);
            let lock = self.data_dir.join("locks").join(format!("{CLOUD}-{}", entry.key));
            if let Ok(Some(_held)) = crate::process::lock::try_open(&lock) {
                let _ = fs::remove_file(&lock);
            }
            end(record, dry_run)?;
        }
        Ok(settled)
    }

    /// Things that we do not see and never saw in the account that we look in, each with that account: they may be in
    /// another one. Those that we see are noted.
    pub(super) async fn unseen(
        &self,
        told: &mut Told,
        there: &[(Made, Seen)],
    ) -> Result<Vec<(Made, String)>, BackendError> {
        let mut unseen = Vec::new();
        for one in told.made.iter().filter(|one| one.managed) {
            let Some(keeper) = self.keeper(one) else { continue };
            let Some(account) = keeper.account().await? else { continue };
            if there.iter().any(|(other, _)| other == one) {
                told.seen.insert(one.id.clone(), account);
            } else if told.seen.get(&one.id) != Some(&account) {
                unseen.push((one.clone(), account));
            }
        }
        Ok(unseen)
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

    /// What Packer told of before it or we ended, and whether that is all.
    fn told_of(&self, dir: &Path, left: &Left) -> Result<Told, BackendError> {
        let written = fs::read(dir.join(MADE)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if let Some(told) = written {
            return Ok(told);
        }
        let path = dir.join(FOLDER).join(OUTPUT);
        let unread = |error| BackendError::failed(format!("reading {}", path.display()), error);
        let (report, ended) = read_output(&path).map_err(unread)?;
        let whole = ended && report.is_complete() && !report.has_failed();
        Ok(Told { made: self.made(&report, &left.directory), whole, ..Told::default() })
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

/// Reads Packer's output, and whether it said that it was at its end.
fn read_output(path: &Path) -> io::Result<(Report, bool)> {
    let (mut report, mut ended) = (Report::default(), false);
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((report, false)),
        file => file?,
    };
    for line in io::BufReader::new(file).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if let Some(record) = output::Record::parse(line.trim_end_matches('\r')) {
            ended |= record.field(1).contains("Builds finished.");
            report.take(&record);
        }
    }
    Ok((report, ended))
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

/// What a person does about things that are not seen; `entry` is the file of the build's entry in the journal.
pub(super) fn in_words(unseen: &[(Made, String)], entry: &Path) -> Vec<String> {
    let one = |(made, account): &(Made, String)| {
        format!(
            "{} is not seen from account {account}: look for it in the account of the template. `terraform-provider-sindri sweep` with credentials of that account ends this; when it is gone already, remove {}",
            told(made),
            entry.display()
        )
    };
    unseen.iter().map(one).collect()
}

fn unwritable(error: io::Error) -> BackendError {
    BackendError::failed("writing the record of an image", error)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use async_trait::async_trait;
    use chrono::TimeDelta;
    use serde_json::json;

    use chrono::DateTime;

    use super::*;
    use crate::domain::{CacheKey, Heard, Holder, ImageBackend, Keeper};
    use crate::journal::Phase;
    use crate::process::Runner;

    const FINISHED: &str = "1,,ui,say,\\n==> Builds finished. The artifacts of successful builds are:";
    const ARTIFACT: &str = "1,file.a,artifact-count,1\n1,file.a,artifact,0,builder-id,packer.file\n\
        1,file.a,artifact,0,id,File\n1,file.a,artifact,0,files-count,1\n1,file.a,artifact,0,file,0,a.txt\n\
        1,file.a,artifact,0,end\n";

    /// What a build leaves whose provider and supervisor are killed: a folder with Packer's output, a file that was made,
    /// an entry of the journal.
    fn killed(dir: &Path, output: &str, share: bool) -> (std::sync::Arc<Templates>, Record) {
        let templates = Templates {
            data_dir: dir.to_owned(),
            cache_dir: dir.join("cache"),
            runner: Runner::this_binary().unwrap(),
            packer: crate::packer::Settings::default(),
            keepers: Vec::new(),
        };
        let build = Uuid::new_v4();
        let folder = templates.build_dir(build).join("packer");
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir_all(dir.join("tmp")).unwrap();
        fs::write(dir.join("a.txt"), "made").unwrap();
        fs::write(folder.join(OUTPUT), output).unwrap();
        fs::write(dir.join("log"), "").unwrap();
        let (tmp, log) = (dir.join("tmp"), dir.join("log"));
        let left = Left { directory: dir.to_owned(), tmp, log, inputs: json!({}) };
        let now = Utc::now();
        let entry = Entry {
            build,
            cloud: CLOUD.into(),
            region: "local".into(),
            name: "web-1".into(),
            key: CacheKey::try_from("a".repeat(63)).unwrap(),
            share,
            holder: Holder::random(),
            tags: BTreeMap::new(),
            access: json!(left),
            started_at: now,
            deadline: now + TimeDelta::hours(1),
            phase: Phase::Building,
        };
        let record = Journal::open(dir).begin(entry).unwrap();
        (std::sync::Arc::new(templates), record)
    }

    #[tokio::test]
    async fn what_packer_told_of_is_finished_or_deleted() {
        // Packer says so before it tells of what was made.
        let half = ARTIFACT.replace("count,1\n", "count,2\n");
        let other = "1,,ui,say,Build 'file.b' finished after 1 second.";
        for (output, share, completed) in [
            (format!("{FINISHED}\n{ARTIFACT}"), true, true),
            (format!("{FINISHED}\n{half}"), true, false),
            (format!("{other}\n{FINISHED}\n{ARTIFACT}"), true, false),
            (format!("{FINISHED}\n{ARTIFACT}"), false, false),
            (format!("1,,error-count,1\n{FINISHED}\n{ARTIFACT}"), true, false),
            // Cut off before the end.
            (ARTIFACT.to_owned(), true, false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let (templates, record) = killed(dir.path(), &output, share);
            let (key, build) = (record.entry().key.clone(), record.entry().build);
            let cancel = CancellationToken::new();
            drop(record);
            let dry =
                templates.settle(templates.abandoned().unwrap().remove(0), true, &cancel).await.unwrap();
            assert!(dir.path().join("a.txt").exists(), "a dry run deletes nothing");
            let told = templates.recover(&cancel).await;
            assert_eq!(dry.completed.is_some(), completed, "{output}");
            assert_eq!(dir.path().join("a.txt").exists(), completed, "{output}");
            assert_eq!(told.iter().any(|line| line.contains("a.txt")), !completed, "{told:?}");
            let found = templates.images(None).find(&key).await.unwrap();
            assert_eq!(found.len(), usize::from(completed));
            assert!(!templates.build_dir(build).exists() && !dir.path().join("tmp").exists());
            assert!(templates.abandoned().unwrap().is_empty());
        }
    }

    /// A cloud with two accounts, of which we are in one at a time.
    #[derive(Debug, Default)]
    struct Cloud {
        here: Mutex<String>,
        things: Mutex<BTreeSet<(String, String)>>,
        is_slow: bool,
    }

    impl Cloud {
        fn place(&self, made: &Made) -> (String, String) {
            (self.here.lock().unwrap().clone(), made.id.clone())
        }
    }

    #[async_trait]
    impl Keeper for Cloud {
        fn keeps(&self, made: &Made) -> bool {
            made.builder_id == "cloud"
        }

        async fn account(&self) -> Result<Option<String>, BackendError> {
            Ok(Some(self.here.lock().unwrap().clone()))
        }

        async fn look(&self, made: &Made) -> Result<Option<Seen>, BackendError> {
            Ok(self.things.lock().unwrap().contains(&self.place(made)).then(Seen::default))
        }

        fn hear(&self, line: &str) -> Option<Heard> {
            if line == "removing" {
                return Some(Heard::Removes);
            }
            let id = line.strip_prefix("making ")?.to_owned();
            Some(Heard::Begins(Made { builder_id: "cloud".into(), id, managed: true, ..Made::default() }))
        }

        async fn trace(&self, heard: &Made, _: DateTime<Utc>) -> Result<Option<Made>, BackendError> {
            let here = self.things.lock().unwrap().contains(&self.place(heard));
            Ok(here.then(|| heard.clone()))
        }

        async fn delete(&self, made: &Made, cancel: &CancellationToken) -> Result<Vec<String>, BackendError> {
            if self.is_slow {
                cancel.cancelled().await;
                return Err(BackendError::Cancelled { operation: "deleting".into() });
            }
            self.things.lock().unwrap().remove(&self.place(made));
            Ok(Vec::new())
        }
    }

    const THINGS: &str = "1,c.a,artifact-count,2\n1,c.a,artifact,0,builder-id,cloud\n1,c.a,artifact,0,id,one\n\
        1,c.a,artifact,0,end\n1,c.a,artifact,1,builder-id,cloud\n1,c.a,artifact,1,id,two\n1,c.a,artifact,1,end\n";

    /// A killed build whose things are in account `b`.
    fn killed_in_cloud(dir: &Path, share: bool, is_slow: bool) -> (Templates, Arc<Cloud>) {
        let (templates, record) = killed(dir, &format!("{FINISHED}\n{THINGS}"), share);
        drop(record);
        let things = ["one", "two"].map(|id| ("b".to_owned(), id.to_owned()));
        let cloud = Cloud { here: Mutex::default(), things: Mutex::new(things.into()), is_slow };
        let (cloud, mut templates) = (Arc::new(cloud), Arc::into_inner(templates).unwrap());
        templates.keepers.push(Arc::clone(&cloud) as Arc<dyn Keeper>);
        (templates, cloud)
    }

    #[tokio::test]
    async fn what_may_be_in_another_account_is_not_taken_for_gone() {
        for share in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (templates, cloud) = killed_in_cloud(dir.path(), share, false);
            let cancel = CancellationToken::new();
            *cloud.here.lock().unwrap() = "a".into();
            for _ in 0..2 {
                let told = templates.recover(&cancel).await;
                for id in ["one", "two"] {
                    assert!(told.iter().any(|it| it.contains(id) && it.contains("account a")), "{told:?}");
                }
                assert!(!told.iter().any(|it| it.contains("Deleted")), "{told:?}");
                assert_eq!(templates.abandoned().unwrap().len(), 1);
            }
            *cloud.here.lock().unwrap() = "b".into();
            let told = templates.recover(&cancel).await;
            assert_eq!(told.iter().any(|it| it.contains("had made image")), share, "{told:?}");
            assert_eq!(cloud.things.lock().unwrap().is_empty(), !share);
            assert!(templates.abandoned().unwrap().is_empty());
        }
    }

    #[tokio::test]
    async fn what_was_seen_and_is_not_any_more_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (templates, cloud) = killed_in_cloud(dir.path(), false, false);
        *cloud.here.lock().unwrap() = "b".into();
        // An earlier try got as far as this.
        let mut told = Told::default();
        let one = Made { builder_id: "cloud".into(), id: "one".into(), managed: true, ..Made::default() };
        told.made = vec![one];
        let there = templates.look(&told.made).await.unwrap();
        assert!(templates.unseen(&mut told, &there).await.unwrap().is_empty());
        cloud.things.lock().unwrap().clear();
        assert!(templates.unseen(&mut told, &[]).await.unwrap().is_empty());
        *cloud.here.lock().unwrap() = "a".into();
        assert_eq!(templates.unseen(&mut told, &[]).await.unwrap().len(), 1);
    }

    /// Interrupted when `one` is still being made, after `two` was an artifact, and `three` was removed.
    #[tokio::test]
    async fn what_packer_had_begun_is_looked_for_and_deleted() {
        let told = "1,c.b,artifact-count,1\n1,c.b,artifact,0,builder-id,cloud\n1,c.b,artifact,0,id,two\n\
            1,c.b,artifact,0,end\n1,,error-count,1\n";
        let dir = tempfile::tempdir().unwrap();
        let (templates, record) = killed(dir.path(), told, true);
        drop(record);
        let things = ["one", "two"].map(|id| ("b".to_owned(), id.to_owned()));
        let cloud = Cloud { here: Mutex::new("a".into()), things: Mutex::new(things.into()), is_slow: false };
        let (cloud, mut templates) = (Arc::new(cloud), Arc::into_inner(templates).unwrap());
        templates.keepers.push(Arc::clone(&cloud) as Arc<dyn Keeper>);
        let log = "    c.a: making one\n    c.b: making two\n==> c.c: making three\n==> c.c: removing\n\
            making four\n==> c.e: making five\n==> Builds finished. The artifacts of successful builds are:\n\
            --> c.e: all of it\n";
        fs::write(dir.path().join("log"), log).unwrap();
        let cancel = CancellationToken::new();
        for _ in 0..2 {
            let told = templates.recover(&cancel).await;
            let of = |id: &str| told.iter().any(|it| it.contains(id) && it.contains("account a"));
            assert!(of("one") && of("two") && told.len() == 2, "{told:?}");
            assert_eq!(templates.abandoned().unwrap().len(), 1);
        }
        *cloud.here.lock().unwrap() = "b".into();
        let told = templates.recover(&cancel).await;
        assert!(told.len() == 2 && told.iter().all(|it| it.contains("Deleted")), "{told:?}");
        assert!(cloud.things.lock().unwrap().is_empty() && templates.abandoned().unwrap().is_empty());
    }

    /// With `cache = false` nobody may have the image of a build that nobody waits for any more.
    #[tokio::test]
    async fn a_record_goes_with_what_it_is_of() {
        let dir = tempfile::tempdir().unwrap();
        let (templates, record) = killed(dir.path(), &format!("{FINISHED}\n{ARTIFACT}"), false);
        let left = serde_json::from_value(record.entry().access.clone()).unwrap();
        let made = vec![Made { files: vec![dir.path().join("a.txt")], ..Made::default() }];
        templates.keep(&of_entry(record.entry(), &left, made)).unwrap();
        drop(record);
        templates.recover(&CancellationToken::new()).await;
        assert!(!dir.path().join("a.txt").exists() && templates.abandoned().unwrap().is_empty());
        assert_eq!(templates.records().all().unwrap(), []);
    }

    #[tokio::test]
    async fn an_output_that_cannot_be_read_is_not_taken_for_empty() {
        let dir = tempfile::tempdir().unwrap();
        let (templates, record) = killed(dir.path(), "", true);
        let output = templates.build_dir(record.entry().build).join(FOLDER).join(OUTPUT);
        fs::remove_file(&output).unwrap();
        fs::create_dir(&output).unwrap();
        drop(record);
        let told = templates.recover(&CancellationToken::new()).await;
        assert!(told.len() == 1 && told[0].contains("output"), "{told:?}");
        assert_eq!(templates.abandoned().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_deletion_that_is_late_is_told_to_stop_and_stays_in_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        let (templates, cloud) = killed_in_cloud(dir.path(), false, true);
        *cloud.here.lock().unwrap() = "b".into();
        let record = templates.abandoned().unwrap().remove(0);
        let stop = CancellationToken::new();
        let settled = within(Duration::from_millis(50), &stop, templates.settle(record, false, &stop)).await;
        assert!(causes(&settled.unwrap_err()).contains("longer than 50ms"));
        assert_eq!(templates.abandoned().unwrap().len(), 1);
    }
}
