//! A disk that is full at one point after another of what is written to it. It is told, with the place and what to do; nothing
//! half is left; and when there is space, the next one succeeds.

mod builds;
mod images;
mod journal;
mod machines;
mod trees;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sindri::backends::qemu::host::AcceleratorChoice;
use sindri::backends::qemu::store::Store;
use sindri::backends::qemu::{ForeignStore, Local};
use sindri::diagnose;
use sindri::domain::BackendError;

use crate::support::image;
use crate::support::small_disk::Disk;

/// What stays after everything is removed: logs are for the user, the store is still the same one, and its lock's file has no
/// content.
const KEPT: [&str; 3] = ["logs", "store.json", "store.lock"];

/// A computer whose data are on a small disk.
struct House {
    disk: Disk,
    // After the disk.
    dir: tempfile::TempDir,
    local: Arc<Local>,
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::mount(&dir.path().join("disk"));
        let local = Arc::new(Local {
            store: Store::at(disk.0.join("data")),
            cache_dir: disk.0.join("cache"),
            accelerator: AcceleratorChoice::Auto,
            foreign_store: ForeignStore::Error,
            runner: image::host().runner,
            packer: sindri::packer::Settings::default(),
            bases: Default::default(),
        });
        Self { disk, dir, local }
    }

    /// Files and folders of data and cache, but for those that stay.
    fn left(&self) -> Vec<PathBuf> {
        let mut left = Vec::new();
        for name in ["images", "vms", "keys", "locks", "journal", "launches"] {
            list(&self.local.store.root().join(name), &mut left);
        }
        for name in ["downloads", "trees/area/work", "trees/area/layers"] {
            list(&self.local.cache_dir.join(name), &mut left);
        }
        left.retain(|path| path.extension().is_none_or(|extension| extension != "lock"));
        let data = fs::read_dir(self.local.store.root()).into_iter().flatten().flatten();
        let files = data.filter(|entry| entry.path().is_file()).map(|entry| entry.path());
        left.extend(files.filter(|path| !KEPT.iter().any(|kept| path.ends_with(kept))));
        left
    }

    fn assert_nothing_left(&self, point: &str) {
        let left = self.left();
        assert!(left.is_empty(), "{point}: left behind: {left:?}");
        let place = self.disk.0.display().to_string();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|it| fs::read(it.path().join("cmdline")).ok());
        let lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
        let running: Vec<_> = lines.filter(|line| line.contains(&place)).collect();
        assert!(running.is_empty(), "{point}: still run: {running:?}");
    }

    /// It is told once that there is no space, where, and what to do. Returns all that is told.
    fn assert_told(&self, point: &str, error: &BackendError) -> String {
        let told = diagnose::backend("Not done", error).detail;
        let place = self.disk.0.display().to_string();
        for words in ["o space left", &place, "Free some space", "`data_dir`"] {
            assert!(told.contains(words), "{point}: no {words:?} in {told}");
        }
        told
    }
}

/// What was done, and to which file: without the ids in it.
fn what(told: &str) -> String {
    let line = told.lines().find(|line| line.contains(" /")).unwrap_or_default();
    let (doing, path) = line.split(". ").next().and_then(|line| line.split_once(" /")).unwrap_or_default();
    let is_id = |name: &str| name.trim_matches('.').split('.').next().is_some_and(|id| id.len() > 30);
    let names: Vec<&str> = path.split('/').skip(3).filter(|name| !is_id(name)).collect();
    format!("{doing} {}", names.join("/"))
}

/// What is below a folder; an empty one is as good as none.
fn list(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        found.push(entry.path());
        list(&entry.path(), found);
    }
}
