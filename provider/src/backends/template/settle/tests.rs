use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::TimeDelta;
use serde_json::json;

use chrono::DateTime;

use super::*;
use crate::backends::template::build::FOLDER;
use crate::domain::Seen;
use crate::domain::{CacheKey, Heard, Holder, ImageBackend, Keeper};
use crate::journal::Phase;
use crate::packer::OUTPUT;
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
        claims: Default::default(),
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
        let dry = templates.settle(templates.abandoned().unwrap().remove(0), true, &cancel).await.unwrap();
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
    /// What things that are gone left, and machines that are seen.
    traces: Mutex<BTreeSet<(String, String)>>,
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
        if let Some(machine) = line.strip_prefix("working in ") {
            return Some(Heard::Works(machine.to_owned()));
        }
        if line == "removing" {
            return Some(Heard::Removes);
        }
        let id = line.strip_prefix("making ")?.to_owned();
        Some(Heard::Begins(Made { builder_id: "cloud".into(), id, managed: true, ..Made::default() }))
    }

    async fn was_here(&self, made: &Made) -> Result<bool, BackendError> {
        Ok(self.traces.lock().unwrap().contains(&self.place(made)))
    }

    async fn worked_here(&self, _: &Made, machines: &BTreeSet<String>) -> Result<bool, BackendError> {
        let (here, traces) = (self.here.lock().unwrap().clone(), self.traces.lock().unwrap());
        Ok(machines.iter().all(|machine| traces.contains(&(here.clone(), machine.clone()))))
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
    let cloud = Cloud {
        here: Mutex::default(),
        things: Mutex::new(things.into()),
        traces: Mutex::default(),
        is_slow,
    };
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

/// Both things are deleted by hand before we saw them, in the account that we look in or in another one.
#[tokio::test]
async fn what_is_certainly_gone_ends_an_entry() {
    let quiet = std::time::SystemTime::now() - Duration::from_secs(60 * 60);
    let log = "==> c.a: working in m1\n==> c.b: working in m2\n";
    for (traces, log_age, ended) in [
        (&["one", "two"][..], None, true),
        (&["one"], None, false),
        (&["m1", "m2"], Some(quiet), true),
        (&["m1", "m2"], None, false),
        (&["m1"], Some(quiet), false),
        (&["one", "m1", "m2"], Some(quiet), true),
        (&[], Some(quiet), false),
    ] {
        for share in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (templates, cloud) = killed_in_cloud(dir.path(), share, false);
            *cloud.here.lock().unwrap() = "b".into();
            cloud.things.lock().unwrap().clear();
            let traces = traces.iter().map(|id| ("b".to_owned(), (*id).to_owned()));
            cloud.traces.lock().unwrap().extend(traces);
            fs::write(dir.path().join("log"), log).unwrap();
            if let Some(time) = log_age {
                let file = fs::File::options().append(true).open(dir.path().join("log")).unwrap();
                file.set_modified(time).unwrap();
            }
            let told = templates.recover(&CancellationToken::new()).await;
            let seen = cloud.traces.lock().unwrap();
            assert_eq!(templates.abandoned().unwrap().is_empty(), ended, "{seen:?} {log_age:?}: {told:?}");
        }
    }
}

#[tokio::test]
async fn what_was_seen_and_is_not_any_more_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (templates, cloud) = killed_in_cloud(dir.path(), false, false);
    *cloud.here.lock().unwrap() = "b".into();
    let log = dir.path().join("log");
    // An earlier try got as far as this.
    let mut told = Told::default();
    let one = Made { builder_id: "cloud".into(), id: "one".into(), managed: true, ..Made::default() };
    told.made = vec![one];
    let there = templates.look(&told.made).await.unwrap();
    assert!(templates.unseen(&mut told, &there, &log).await.unwrap().is_empty());
    cloud.things.lock().unwrap().clear();
    assert!(templates.unseen(&mut told, &[], &log).await.unwrap().is_empty());
    *cloud.here.lock().unwrap() = "a".into();
    assert_eq!(templates.unseen(&mut told, &[], &log).await.unwrap().len(), 1);
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
    let cloud = Cloud {
        here: Mutex::new("a".into()),
        things: Mutex::new(things.into()),
        traces: Mutex::default(),
        is_slow: false,
    };
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
