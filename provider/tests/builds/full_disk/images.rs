//! What is written of an image that was built.

use std::fs;
use std::path::PathBuf;

use acceptance_tests::only_root;
use chrono::Utc;
use sindri::backends::qemu::store::{Fingerprint, Metadata, Store};
use sindri::domain::cache_key::{CacheKey, KeyInputs};
use sindri::domain::{BackendError, Holder, ImageBackend, LabelChange, Labels};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::House;
use crate::support::image::image;
use crate::support::small_disk::Points;

/// A store with one image in it, whose disk is empty.
pub(super) fn put(store: &Store) -> Result<String, BackendError> {
    let failed = |error| BackendError::failed("storing the image", error);
    let id = Uuid::new_v4();
    let partial = store.begin(id).map_err(failed)?;
    let path = partial.dir().join("disk.qcow2");
    let made = std::process::Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(&path)
        .arg("64M")
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    if !made.success() {
        fs::remove_dir_all(partial.dir()).unwrap();
        return Err(failed(sindri::backends::qemu::store::StoreError::Io {
            action: "write",
            path,
            source: rustix::io::Errno::NOSPC.into(),
        }));
    }
    let metadata = Metadata {
        name: "empty".into(),
        cache_key: CacheKey::of(&image(Vec::new()), &KeyInputs::default()).unwrap(),
        disk: "disk.qcow2".into(),
        format: "qcow2".into(),
        sha256: "0".repeat(64),
        fingerprint: Fingerprint::of(&path).unwrap(),
        resolved_base: "none".into(),
        created_at: Utc::now(),
        build_seconds: 1,
        log_path: PathBuf::from("/dev/null"),
        labels: Labels::default(),
        inputs: serde_json::Value::Null,
    };
    store.commit(id, &metadata, &Holder::random()).map(|image| image.id).map_err(failed)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_of_an_image() {
    if !only_root("mount a small disk").unwrap() {
        return;
    }
    let house = House::new();
    let (store, cancel) = (&house.local.store, CancellationToken::new());
    let mut points = Points::new();
    // One failure after the other, by space and then by files, until there is enough.
    let mut id = None;
    for by_files in [false, true] {
        let mut failures = 0;
        while id.is_none() {
            let point = if by_files { points.files(&house.disk) } else { points.space(&house.disk) };
            match put(store) {
                Ok(made) => id = Some(made),
                Err(error) => {
                    failures += 1;
                    house.assert_told(&point, &error);
                    house.disk.relieve();
                    house.assert_nothing_left(&point);
                }
            }
        }
        assert!(failures >= 2, "{failures}");
        house.disk.relieve();
        if !by_files {
            let made = id.take().unwrap();
            store.release(&made, store.holders(&made).unwrap().first(), false).unwrap();
        }
    }
    let id = id.unwrap();
    // A claim has no content, and is a file.
    let holder = Holder::random();
    house.disk.leave_files(0);
    let error = house.local.hold(&id, &holder, Utc::now(), &cancel).await.unwrap_err();
    house.assert_told("a claim", &error);
    house.disk.relieve();
    assert_eq!(store.holders(&id).unwrap().len(), 1);
    house.local.hold(&id, &holder, Utc::now(), &cancel).await.unwrap();
    // Labels: the old ones stay.
    let change = LabelChange { description: Some(Some("new".into())), ..LabelChange::default() };
    house.disk.leave(0);
    let error = house.local.change(&id, &change, None, &cancel).await.unwrap_err();
    house.assert_told("labels", &error);
    assert_eq!(store.get(&id).unwrap().labels.description, None);
    house.disk.relieve();
    house.local.change(&id, &change, None, &cancel).await.unwrap();
    assert_eq!(store.get(&id).unwrap().labels.description.as_deref(), Some("new"));
    // What a full disk needs most: that something is removed from it.
    house.disk.leave_files(0);
    house.disk.leave(0);
    for holder in store.holders(&id).unwrap() {
        store.release(&id, Some(&holder), false).unwrap();
    }
    house.assert_nothing_left("the image is deleted");
}
