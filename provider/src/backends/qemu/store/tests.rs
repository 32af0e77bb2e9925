use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use chrono::{TimeZone, Utc};
use proptest::prelude::*;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::domain::backend::Released;
use crate::domain::{Holder, Labels};

pub(in crate::backends::qemu) struct Fixture {
    pub(in crate::backends::qemu) store: Store,
    _dir: tempfile::TempDir,
}

pub(in crate::backends::qemu) fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    Fixture { store: Store::at(dir.path().join("data")), _dir: dir }
}

pub(in crate::backends::qemu) fn key(digit: char) -> CacheKey {
    CacheKey::try_from(digit.to_string().repeat(63)).unwrap()
}

pub(in crate::backends::qemu) fn holder(digit: char) -> Holder {
    Holder::parse(&digit.to_string().repeat(8)).unwrap()
}

/// Puts an image into the store: `age` in hours.
pub(in crate::backends::qemu) fn put(store: &Store, key: &CacheKey, age: i64) -> Image {
    put_named(store, "dev", key, age)
}

pub(in crate::backends::qemu) fn put_named(store: &Store, name: &str, key: &CacheKey, age: i64) -> Image {
    let id = Uuid::new_v4();
    let partial = store.begin(id).unwrap();
    let disk = partial.dir().join("disk.qcow2");
    fs::write(&disk, id.to_string()).unwrap();
    let metadata = Metadata {
        name: name.into(),
        cache_key: key.clone(),
        disk: "disk.qcow2".into(),
        format: "qcow2".into(),
        sha256: hex::encode(crate::domain::cache_key::file_digest(&disk).unwrap()),
        fingerprint: Fingerprint::of(&disk).unwrap(),
        resolved_base: "bookworm".into(),
        created_at: Utc.with_ymd_and_hms(2026, 1, 31, 0, 0, 0).unwrap() - chrono::Duration::hours(age),
        build_seconds: 7,
        log_path: "/log".into(),
        labels: Labels::default(),
        inputs: json!({"name_prefix": "dev"}),
    };
    let image = store.commit(id, &metadata, &holder('f')).unwrap();
    store.release(&image.id, Some(&holder('f')), true).unwrap();
    image
}

fn ids(images: &[Image]) -> Vec<&str> {
    images.iter().map(|image| image.id.as_str()).collect()
}

#[test]
fn an_empty_store_has_nothing_and_makes_nothing() {
    let Fixture { store, _dir } = fixture();
    assert_eq!(store.find(&key('a')).unwrap(), []);
    assert_eq!(store.list().unwrap(), []);
    assert!(store.abandoned().unwrap().is_empty());
    assert_eq!(store.id().unwrap(), None);
    assert!(!store.root().exists());
}

#[test]
fn images_are_found_by_key_oldest_first() {
    let Fixture { store, _dir } = fixture();
    let (new, old, other) = (put(&store, &key('a'), 1), put(&store, &key('a'), 5), put(&store, &key('b'), 9));
    assert_eq!(ids(&store.find(&key('a')).unwrap()), [&old.id, &new.id]);
    assert_eq!(ids(&store.list().unwrap()), [&other.id, &old.id, &new.id]);
    assert_eq!(store.inputs(&new.id).unwrap(), json!({"name_prefix": "dev"}));
    assert_eq!(fs::metadata(store.images()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn an_unfinished_build_is_no_image_and_abandoned_only_when_nobody_works_on_it() {
    let Fixture { store, _dir } = fixture();
    let partial = store.begin(Uuid::new_v4()).unwrap();
    let dir = partial.dir().to_owned();
    assert_eq!(store.list().unwrap(), []);
    assert!(store.abandoned().unwrap().is_empty());
    drop(partial);
    let abandoned = store.abandoned().unwrap();
    assert_eq!(abandoned.iter().map(Partial::dir).collect::<Vec<_>>(), [dir]);
    assert!(!abandoned[0].is_kept());
    abandoned[0].keep().unwrap();
    assert!(abandoned[0].is_kept());
    // While one cleans up, another does not.
    assert!(store.abandoned().unwrap().is_empty());
}

/// Root reads everything: what cannot be opened is a link in a loop here.
#[test]
fn an_unfinished_build_that_cannot_be_looked_at_stops_no_other() {
    let Fixture { store, _dir } = fixture();
    let partial = store.begin(Uuid::new_v4()).unwrap();
    let theirs = store.partial(Uuid::new_v4());
    std::os::unix::fs::symlink(&theirs, &theirs).unwrap();
    let ours = partial.dir().to_owned();
    drop(partial);
    assert_eq!(store.abandoned().unwrap().iter().map(Partial::dir).collect::<Vec<_>>(), [ours]);
}

#[test]
fn ids_that_are_no_uuid_never_become_a_path() {
    let Fixture { store, _dir } = fixture();
    fs::create_dir_all(store.root().join("secret")).unwrap();
    for id in ["", ".", "..", "../secret", "/etc", "a/b", "x\0y", "{6f9619ff-8b86-d011-b42d-00c04fc964ff}"] {
        assert!(matches!(store.get(id), Err(StoreError::NotFound { .. })), "{id:?}");
        assert!(matches!(store.release(id, None, false), Err(StoreError::NotFound { .. })), "{id:?}");
    }
}

#[test]
fn a_touched_disk_is_intact_an_altered_one_is_not_found_by_key() {
    let Fixture { store, _dir } = fixture();
    let image = put(&store, &key('a'), 1);
    let disk = image.disk.clone().unwrap().path;
    let bytes = fs::read(&disk).unwrap();
    fs::write(&disk, &bytes).unwrap();
    // As after a restore from a backup. Who changes the store meanwhile is not waited for.
    let guard = store.lock_store().unwrap();
    assert!(store.get(&image.id).unwrap().disk.unwrap().intact);
    assert_ne!(store.metadata(&image.id).unwrap().fingerprint, Fingerprint::of(&disk).unwrap());
    drop(guard);
    assert!(store.get(&image.id).unwrap().disk.unwrap().intact);
    let kept = store.metadata(&image.id).unwrap();
    assert_eq!(kept.fingerprint, Fingerprint::of(&disk).unwrap(), "it is hashed at every look");

    fs::write(&disk, "altered").unwrap();
    let now = store.get(&image.id).unwrap().disk.unwrap();
    assert!(!now.intact);
    assert_ne!(now.sha256, image.disk.unwrap().sha256);
    assert_eq!(store.find(&key('a')).unwrap(), []);
}

#[test]
fn a_missing_disk_or_folder_is_a_missing_image() {
    let Fixture { store, _dir } = fixture();
    let image = put(&store, &key('a'), 1);
    fs::remove_file(image.disk.unwrap().path).unwrap();
    assert!(matches!(store.get(&image.id), Err(StoreError::NotFound { .. })));
    store.remove_remains(&image.id).unwrap();
    assert!(!store.images().join(&image.id).exists());
    assert!(matches!(store.get(&image.id), Err(StoreError::NotFound { .. })));
    assert_eq!(store.find(&key('a')).unwrap(), []);
}

/// As in the midst of a restore, or while a volume is not mounted.
#[test]
fn what_may_be_whole_again_is_not_removed() {
    let Fixture { store, _dir } = fixture();
    let (half, linked) = (put(&store, &key('a'), 1), put(&store, &key('b'), 1));
    fs::remove_file(store.images().join(&half.id).join(metadata::FILE)).unwrap();
    let disk = linked.disk.unwrap().path;
    fs::remove_file(&disk).unwrap();
    std::os::unix::fs::symlink("/no/such/volume/disk.qcow2", &disk).unwrap();
    for id in [&half.id, &linked.id] {
        assert!(matches!(store.get(id), Err(StoreError::NotFound { .. })));
        store.remove_remains(id).unwrap();
        assert!(store.images().join(id).exists());
    }
    assert!(half.disk.unwrap().path.exists());
}

#[test]
fn damaged_metadata_is_said_and_never_used() {
    let Fixture { store, _dir } = fixture();
    let image = put(&store, &key('a'), 1);
    let path = store.images().join(&image.id).join("metadata.json");
    let good = fs::read(&path).unwrap();
    let half = &good[..good.len() / 2];
    for bytes in [&b""[..], half, b"null", b"\xff\xfe", br#"{"name": 1}"#] {
        fs::write(&path, bytes).unwrap();
        assert!(matches!(store.get(&image.id), Err(StoreError::Corrupt { .. })));
        assert_eq!(store.find(&key('a')).unwrap(), []);
        assert_eq!(store.list().unwrap(), []);
    }
    let aside = store.set_aside(&image.id).unwrap();
    assert!(aside.join("disk.qcow2").exists());
    assert!(matches!(store.get(&image.id), Err(StoreError::NotFound { .. })));
}

proptest! {
    /// Whatever a disk or a person does to a file of an image: it is found as it was built, or not at all.
    #[test]
    fn what_is_corrupt_is_never_used(
        name in prop::sample::select(vec!["metadata.json", "disk.qcow2"]),
        at in any::<prop::sample::Index>(),
        removed in 0_usize..64,
        put in prop::collection::vec(any::<u8>(), 0..64),
        is_cut in any::<bool>(),
    ) {
        let Fixture { store, _dir } = fixture();
        let image = put_named(&store, "dev", &key('a'), 1);
        let path = store.images().join(&image.id).join(name);
        let built = fs::read(store.images().join(&image.id).join("disk.qcow2")).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let from = at.index(bytes.len());
        let to = if is_cut { bytes.len() } else { (from + removed).min(bytes.len()) };
        bytes.splice(from..to, put);
        fs::write(&path, bytes).unwrap();
        for found in store.find(&key('a')).unwrap() {
            let disk = found.disk.unwrap();
            prop_assert!(disk.intact && found.id == image.id);
            prop_assert_eq!(&fs::read(disk.path).unwrap(), &built);
        }
        prop_assert_eq!(store.find(&key('b')).unwrap(), vec![]);
        let _ = (store.list().unwrap(), store.get(&image.id));
    }
}

#[test]
fn the_last_holder_deletes() {
    let Fixture { store, _dir } = fixture();
    let image = put(&store, &key('a'), 1);
    store.hold(&image.id, &holder('1')).unwrap();
    store.hold(&image.id, &holder('1')).unwrap();
    store.hold(&image.id, &holder('2')).unwrap();
    assert_eq!(store.release(&image.id, Some(&holder('1')), false).unwrap(), Released::Held { others: 1 });
    assert_eq!(store.release(&image.id, Some(&holder('1')), false).unwrap(), Released::Held { others: 1 });
    // One that never held it, such as an import, does not delete what others hold.
    assert_eq!(store.release(&image.id, None, false).unwrap(), Released::Held { others: 1 });
    assert_eq!(
        store.release(&image.id, Some(&holder('2')), false).unwrap(),
        Released::Deleted { left: Vec::new() }
    );
    assert!(matches!(store.release(&image.id, None, false), Err(StoreError::NotFound { .. })));
    assert!(matches!(store.hold(&image.id, &holder('1')), Err(StoreError::NotFound { .. })));
    for dir in ["images", "keys"] {
        assert_eq!(fs::read_dir(store.root().join(dir)).unwrap().count(), 0, "{dir}");
    }
}

/// A second store in the same folder is what another process has; a dropped one, what a killed process leaves.
#[test]
fn a_claim_stays_when_its_process_ends_only_if_state_knows_it() {
    for (known, others) in [(false, 0), (true, 1)] {
        let Fixture { store: killed, _dir } = fixture();
        let (image, other) = (put(&killed, &key('a'), 1), Store::at(killed.root()));
        killed.hold(&image.id, &holder('1')).unwrap();
        other.hold(&image.id, &holder('2')).unwrap();
        assert_eq!(other.holders(&image.id).unwrap(), [holder('1'), holder('2')], "while it lives");
        if known {
            killed.confirm_claim(&image.id, &holder('1')).unwrap();
        }
        other.confirm_claim(&image.id, &holder('1')).unwrap();
        drop(killed);
        // A process that another test starts in this moment has the lock, too, until it is another program.
        let late = std::time::Instant::now() + Duration::from_secs(5);
        while other.holders(&image.id).unwrap().len() != 1 + others && std::time::Instant::now() < late {
            std::thread::sleep(Duration::from_millis(10));
        }
        let released = other.release(&image.id, Some(&holder('2')), false).unwrap();
        let expected = if known { Released::Held { others } } else { Released::Deleted { left: Vec::new() } };
        assert_eq!(released, expected, "known: {known}");
    }
}

/// As stores have it that an earlier version made.
#[test]
fn a_claim_without_a_word_is_known() {
    let Fixture { store, _dir } = fixture();
    let image = put(&store, &key('a'), 1);
    fs::write(store.images().join(&image.id).join("holders").join(holder('1').to_string()), "").unwrap();
    assert_eq!(store.release(&image.id, None, false).unwrap(), Released::Held { others: 1 });
}

#[test]
fn a_retained_image_stays_and_can_be_found() {
    let Fixture { store, _dir } = fixture();
    let image = put(&store, &key('a'), 1);
    store.hold(&image.id, &holder('1')).unwrap();
    assert_eq!(store.release(&image.id, Some(&holder('1')), true).unwrap(), Released::Retained);
    assert_eq!(ids(&store.find(&key('a')).unwrap()), [&image.id]);
    assert_eq!(store.release(&image.id, None, false).unwrap(), Released::Deleted { left: Vec::new() });
}

#[test]
fn an_interrupted_delete_is_finished() {
    let Fixture { store, _dir } = fixture();
    let image = put(&store, &key('a'), 1);
    let gone = store.images().join(format!(".{}.deleted", image.id));
    fs::rename(store.images().join(&image.id), &gone).unwrap();
    store.finish_interrupted().unwrap();
    assert!(!gone.exists());
    assert!(!store.root().join("keys").join(key('a').as_str()).exists());
}

/// A build that was killed between its entry and its image, and one that had not begun.
#[test]
fn an_interrupted_build_leaves_no_entry_and_no_folder() {
    let Fixture { store, _dir } = fixture();
    let (image, lost) = (put(&store, &key('a'), 1), Uuid::new_v4());
    for key in [key('a'), key('b')] {
        store.index(&key, &lost.to_string()).unwrap();
    }
    let [old, fresh] = [(); 2].map(|()| store.images().join(format!(".{}.new", Uuid::new_v4())));
    for dir in [&old, &fresh] {
        fs::create_dir(dir).unwrap();
    }
    fs::File::open(&old)
        .unwrap()
        .set_modified(std::time::SystemTime::now() - 2 * Duration::from_secs(3600))
        .unwrap();
    store.finish_interrupted().unwrap();
    let entries = files::names(&store.root().join("keys").join(key('a').as_str())).unwrap();
    assert_eq!(entries.into_iter().collect::<Vec<_>>(), [image.id]);
    assert!(!store.root().join("keys").join(key('b').as_str()).exists());
    assert_eq!((old.exists(), fresh.exists()), (false, true), "somebody may be about to begin");
}

#[test]
fn labels_change_in_place() {
    let Fixture { store, _dir } = fixture();
    let image = put(&store, &key('a'), 1);
    let labels = Labels {
        description: Some("d".into()),
        tags: [("a".to_owned(), "b".to_owned())].into(),
        channels: ["production".to_owned()].into(),
    };
    store.change(&image.id, &LabelChange::between(&Labels::default(), &labels), None).unwrap();
    assert_eq!(store.get(&image.id).unwrap(), Image { labels, ..image });
}

#[test]
fn the_store_has_one_id() {
    let Fixture { store, _dir } = fixture();
    let made: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| store.ensure_id().unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(made.iter().all(|id| *id == made[0]), "{made:?}");
    assert_eq!(store.id().unwrap().as_ref(), Some(&made[0]));
}

#[tokio::test]
async fn those_that_wait_share_a_failure_and_the_next_one_tries_again() {
    let Fixture { store, _dir } = fixture();
    let cancel = CancellationToken::new();
    let lock = store.lock_key(&key('a'), &cancel).await.unwrap();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.lock_key(&key('a'), &CancellationToken::new()).await.map(drop) }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    lock.report_failure("no space left");
    drop(lock);
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "another apply that was building the same image failed: no space left");
    let lock = store.lock_key(&key('a'), &cancel).await.unwrap();
    drop(lock);
    assert_eq!(fs::read_dir(store.root().join("locks")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_killed_builds_lock_is_removed_and_a_held_one_is_not() {
    let Fixture { store, _dir } = fixture();
    let _held = store.lock_key(&key('a'), &CancellationToken::new()).await.unwrap();
    let stale = store.root().join("locks").join(key('b').as_str());
    fs::write(&stale, "half a message").unwrap();
    store.remove_stale_locks().unwrap();
    assert!(!stale.exists());
    let cancel = CancellationToken::new();
    cancel.cancel();
    assert!(matches!(store.lock_key(&key('a'), &cancel).await, Err(StoreError::Busy(_))));
}

#[tokio::test]
async fn waiting_honours_stop() {
    let Fixture { store, _dir } = fixture();
    let _held = store.lock_key(&key('a'), &CancellationToken::new()).await.unwrap();
    let cancel = CancellationToken::new();
    cancel.cancel();
    assert!(matches!(store.lock_key(&key('a'), &cancel).await, Err(StoreError::Busy(_))));
}

#[tokio::test]
async fn one_at_a_time() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static INSIDE: AtomicUsize = AtomicUsize::new(0);
    let Fixture { store, _dir } = fixture();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        tasks.spawn(async move {
            let lock = store.lock_key(&key('a'), &CancellationToken::new()).await.unwrap();
            assert_eq!(INSIDE.fetch_add(1, Ordering::SeqCst), 0);
            tokio::time::sleep(Duration::from_millis(5)).await;
            INSIDE.fetch_sub(1, Ordering::SeqCst);
            drop(lock);
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[test]
fn old_logs_go_with_their_images() {
    let Fixture { store, _dir } = fixture();
    let image = put(&store, &key('a'), 1);
    fs::create_dir(store.logs()).unwrap();
    let old = std::time::SystemTime::now() - Duration::from_secs(91 * 24 * 3600);
    let gone = Uuid::new_v4().to_string();
    let logs = [
        (format!("dev-{}.log", image.id), old, true),
        (format!("dev-{gone}.log"), old, false),
        (format!("web-{gone}.log"), std::time::SystemTime::now(), true),
        ("short.log".to_owned(), old, false),
        ("notes.txt".to_owned(), old, true),
    ];
    for (name, time, _) in &logs {
        fs::File::create(store.logs().join(name)).unwrap().set_modified(*time).unwrap();
    }
    for (link, to) in [("latest-dev.log", &logs[1].0), ("latest-web.log", &logs[2].0)] {
        std::os::unix::fs::symlink(to, store.logs().join(link)).unwrap();
    }
    store.forget_logs();
    // The link's target goes in no particular order.
    store.forget_logs();
    for (name, _, stays) in &logs {
        assert_eq!(store.logs().join(name).exists(), *stays, "{name}");
    }
    let link = |name: &str| store.logs().join(name).is_symlink();
    assert_eq!((link("latest-dev.log"), link("latest-web.log")), (false, true));
}
