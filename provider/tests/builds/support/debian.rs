//! One small system for all tests with real guests: built once by the image builder, and again when anything
//! that shapes it has changed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use sindri::backends::qemu::image::{Build, build};
use sindri::process::{BuildLog, Redactor};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{image, in_time};

/// The disk, in qcow2. Several tests may ask at once.
pub(crate) async fn disk() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian");
    fs::create_dir_all(&dir).unwrap();
    let lock = File::create(dir.join("lock")).unwrap();
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await.unwrap().unwrap();
    let disk = dir.join(format!("{}.qcow2", recipe()));
    if !disk.exists() {
        for old in fs::read_dir(&dir).unwrap().flatten().filter(|it| it.file_name() != "lock") {
            let _ = fs::remove_file(old.path());
        }
        make(&disk).await;
    }
    drop(lock);
    disk
}

async fn make(disk: &Path) {
    let work = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let log = BuildLog::create(&work.path().join("logs"), "debian", "1", Redactor::default()).unwrap();
    let (id, cancel, work_dir) = (Uuid::new_v4(), CancellationToken::new(), work.path().join("work"));
    let (spec, qemu, host) = (image::image(Vec::new()), image::small(), image::host());
    let (spec, qemu, host, work_dir, log, cancel) = (&spec, &qemu, &host, work_dir.as_path(), &log, &cancel);
    let work = Build { id, spec, qemu, host, work_dir, log, cancel };
    let built = in_time(build(&work), || log.tail(40)).await;
    let built = built.unwrap_or_else(|error| panic!("{error:?}\n{}", log.tail(40)));
    fs::rename(built.disk, disk).unwrap();
}

/// A hash of what shapes the image.
fn recipe() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dirs = ["../templates/scripts", "src/backends/qemu/image"];
    let mut files: Vec<PathBuf> = dirs.iter().flat_map(|dir| files_below(&root.join(dir))).collect();
    files.sort();
    let mut hash = Context::new(&SHA256);
    for file in files {
        hash.update(&fs::read(file).unwrap());
    }
    hex::encode(&hash.finish().as_ref()[..8])
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}
