use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::*;
use crate::domain::{CacheKey, Holder};

fn entry() -> Entry {
    let started_at = DateTime::<Utc>::UNIX_EPOCH + TimeDelta::days(20_000);
    Entry {
        build: Uuid::new_v4(),
        cloud: "aws".into(),
        region: "us-west-2".into(),
        name: "web-1".into(),
        key: CacheKey::try_from("a".repeat(63)).unwrap(),
        share: true,
        holder: Holder::random(),
        tags: [("team".to_owned(), "web".to_owned())].into(),
        access: serde_json::json!({"profile": "ci"}),
        started_at,
        deadline: started_at + TimeDelta::hours(1),
        phase: Phase::Begun,
    }
}

#[test]
fn launches_have_a_journal_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::of_launches(dir.path());
    let Entry { started_at, deadline, access, .. } = entry();
    let (cloud, region, name) = ("aws".into(), "us-west-2".into(), "web".into());
    let launch = Launch { launch: Uuid::new_v4(), cloud, region, name, access, started_at, deadline };
    let record = journal.begin(launch.clone()).unwrap();
    assert!(journal.abandoned().unwrap().is_empty(), "somebody works on it");
    drop(record);
    assert!(Journal::open(dir.path()).abandoned().unwrap().is_empty());
    let mut found = journal.abandoned().unwrap();
    let record = found.remove(0);
    assert_eq!((record.entry(), found.len()), (&launch, 0));
    record.end().unwrap();
    assert_eq!(fs::read_dir(dir.path().join("launches")).unwrap().count(), 0);
}

fn files(dir: &Path) -> usize {
    fs::read_dir(dir.join("journal")).map_or(0, Iterator::count)
}

#[test]
fn an_entry_is_there_until_it_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    assert!(journal.abandoned().unwrap().is_empty());
    assert_eq!(files(dir.path()), 0, "looking makes nothing");
    let (ami, begun) = (|| "ami-1".to_owned(), entry());
    let mut record = journal.begin(begun.clone()).unwrap();
    assert!(matches!(journal.begin(begun.clone()), Err(JournalError::Taken { .. })));
    let phases = [
        Phase::Building,
        Phase::Built { image_id: ami() },
        Phase::Accepted { image_id: ami() },
        Phase::Claimed { image_id: ami(), alone: true },
        Phase::Complete { image_id: ami() },
    ];
    for phase in phases {
        record.advance(phase.clone()).unwrap();
        assert!(journal.abandoned().unwrap().is_empty() && journal.knows(begun.build));
        assert!(Record::take(record.path()).unwrap().is_none());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(record.path()), mode(&dir.path().join("journal"))), (0o600, 0o700));
        drop(record);
        let mut found = journal.abandoned().unwrap();
        assert_eq!(found.len(), 1);
        record = found.remove(0);
        assert_eq!(record.entry(), &Entry { phase, ..begun.clone() });
    }
    record.label([("sindri_base".to_owned(), "ami-0".to_owned())]).unwrap();
    let path = record.path().to_owned();
    drop(record);
    let record = Record::take(&path).unwrap().unwrap();
    assert_eq!(record.entry().tags.len(), 2);
    record.end().unwrap();
    assert!(Record::take(&path).unwrap().is_none() && !journal.knows(begun.build));
    assert_eq!(files(dir.path()), 0);
    assert!(matches!(Record::take(&dir.path().join("x.json")), Err(JournalError::NoEntry { .. })));
}

#[test]
fn the_lock_is_held_by_whoever_has_its_descriptor() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    let record = journal.begin(entry()).unwrap();
    let copy = record.lock_fd().try_clone_to_owned().unwrap();
    drop(record);
    assert!(journal.abandoned().unwrap().is_empty());
    drop(copy);
    assert_eq!(journal.abandoned().unwrap().len(), 1);
}

#[test]
fn entries_come_in_the_order_of_their_builds() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    let started_at = entry().started_at;
    for hours in [3, 1, 2] {
        let started_at = started_at + TimeDelta::hours(hours);
        journal.begin(Entry { started_at, ..entry() }).unwrap();
    }
    let found = journal.abandoned().unwrap();
    let hours: Vec<i64> = found.iter().map(|it| (it.entry().started_at - started_at).num_hours()).collect();
    assert_eq!(hours, [1, 2, 3]);
}

#[test]
fn what_a_crash_leaves_beside_an_entry_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    private::create_dir(&dir.path().join("journal")).unwrap();
    let build = Uuid::new_v4();
    fs::write(journal.lock_path(build), "").unwrap();
    fs::write(dir.path().join(format!("journal/{build}.json.abc.new")), "{").unwrap();
    fs::write(dir.path().join("journal/notes.txt"), "of a person").unwrap();
    assert!(journal.abandoned().unwrap().is_empty());
    assert_eq!(files(dir.path()), 3, "a build may be about to begin");
    for name in fs::read_dir(dir.path().join("journal")).unwrap() {
        let file = File::options().write(true).open(name.unwrap().path()).unwrap();
        file.set_modified(std::time::SystemTime::now() - BEGINNING * 2).unwrap();
    }
    assert!(journal.abandoned().unwrap().is_empty());
    assert_eq!(files(dir.path()), 1, "a person's own file stays");
}

#[test]
fn a_build_begins_while_others_look_for_abandoned_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, ended) = (Journal::open(dir.path()), std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                    assert!(journal.abandoned().unwrap().is_empty());
                }
            });
        }
        let begun: Vec<_> = (0..50).map(|_| journal.begin(entry()).map(Record::end)).collect();
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(begun.iter().all(|begun| matches!(begun, Ok(Ok(())))), "{begun:?}");
    });
}

#[test]
fn a_build_waits_for_a_lock_that_somebody_has_for_a_moment() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, entry) = (Journal::open(dir.path()), entry());
    private::create_dir(&dir.path().join("journal")).unwrap();
    let lock = journal.lock(entry.build).unwrap().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(lock);
        });
        journal.begin(entry.clone()).unwrap();
    });
    let record = journal.abandoned().unwrap().remove(0);
    let (_lock, taken) = (record.end().unwrap(), journal.lock(entry.build).unwrap().unwrap());
    assert!(matches!(journal.begin(entry), Err(JournalError::Taken { .. })), "it waits for ever");
    drop(taken);
}

#[test]
fn an_entry_of_another_build_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path());
    let record = journal.begin(entry()).unwrap();
    let other = journal.path(Uuid::new_v4());
    fs::rename(record.path(), &other).unwrap();
    drop(record);
    assert!(journal.abandoned().unwrap().is_empty());
    assert!(dir.path().join("journal/damaged").join(other.file_name().unwrap()).exists());
    assert!(journal.abandoned().unwrap().is_empty());
}

/// Set for the child of the test below.
const HOLD: &str = "SINDRI_TEST_HOLD_JOURNAL";

#[test]
fn a_killed_process_abandons_its_entry() {
    if let Some(dir) = std::env::var_os(HOLD) {
        let _record = Journal::open(Path::new(&dir)).begin(entry()).unwrap();
        println!("\nheld");
        std::thread::sleep(std::time::Duration::from_secs(60));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "journal::tests::a_killed_process_abandons_its_entry", "--nocapture"])
        .env(HOLD, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = io::BufRead::lines(io::BufReader::new(child.stdout.take().unwrap()));
    assert!(lines.map_while(Result::ok).any(|line| line == "held"));
    let journal = Journal::open(dir.path());
    assert!(journal.abandoned().unwrap().is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(journal.abandoned().unwrap().len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn hostile_bytes_are_set_aside(bytes in hostile()) {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path());
        private::create_dir(&dir.path().join("journal")).unwrap();
        let build = Uuid::new_v4();
        fs::write(journal.path(build), &bytes).unwrap();
        prop_assert!(journal.abandoned().unwrap().is_empty());
        let aside = dir.path().join(format!("journal/damaged/{build}.json"));
        prop_assert_eq!(fs::read(aside).unwrap(), bytes);
        prop_assert_eq!(files(dir.path()), 1);
    }
}

/// Anything, and entries that were cut or have one byte changed.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let whole = || serde_json::to_vec(&entry()).unwrap();
    let cut = any::<prop::sample::Index>().prop_map(move |at| {
        let whole = whole();
        whole[..at.index(whole.len())].to_vec()
    });
    let deep = Just(b"[".repeat(200_000));
    prop_oneof![prop::collection::vec(any::<u8>(), 0..200), cut, deep]
}
