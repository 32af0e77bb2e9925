//! A disk that is full at one point after another of what is written to it. It is told, with the place and what to do; nothing
//! half is left; and when there is space, the next one succeeds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use acceptance_tests::{only_root, web};
use chrono::Utc;
use sindri::backends::qemu::host::AcceleratorChoice;
use sindri::backends::qemu::image::{BuildError, Host};
use sindri::backends::qemu::store::{Fingerprint, Metadata, Store};
use sindri::backends::qemu::vm::QemuVmSpec;
use sindri::backends::qemu::{Arch, Base, ForeignStore, ImageSource, Local, QemuImageSpec};
use sindri::domain::cache_key::{CacheKey, KeyInputs};
use sindri::domain::vm_spec::{PowerState, SshAccess, VmSpec, WaitFor};
use sindri::domain::{
    Action, BackendError, BuildRequest, Built, Check, Holder, ImageBackend, ImageBuilder, ImageSpec,
    LabelChange, Labels, VmBackend, VmLauncher, VmRequest,
};
use sindri::journal::{Journal, Launch};
use sindri::resources::diagnose;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::debian;
use crate::support::image::{self, image, inline, run, small, step};
use crate::support::small_disk::{Disk, Points};

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

/// A raw disk of 8 MiB that cannot be packed, with what shows that it has partitions.
fn base(dir: &Path) -> PathBuf {
    let (path, mut content) = (dir.join("base.raw"), vec![0; 8 << 20]);
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut content).unwrap();
    content[510..512].copy_from_slice(&[0x55, 0xaa]);
    fs::write(&path, content).unwrap();
    path
}

fn spec_of(source: ImageSource, sha256: Option<String>) -> QemuImageSpec {
    let base = Base::Image { source, sha256 };
    QemuImageSpec { base, disk_size_gb: 1, compress: false, ..small() }
}

async fn build(house: &House, qemu: &QemuImageSpec) -> Result<Built, BackendError> {
    build_of(house, image(Vec::new()), qemu).await
}

async fn build_of(house: &House, spec: ImageSpec, qemu: &QemuImageSpec) -> Result<Built, BackendError> {
    let key_inputs = KeyInputs { target: qemu.key_inputs().unwrap(), ..KeyInputs::default() };
    let request = BuildRequest {
        key: CacheKey::of(&spec, &key_inputs).unwrap(),
        spec,
        key_inputs,
        labels: Labels::default(),
        inputs: serde_json::Value::Null,
        holder: Holder::random(),
        share: true,
        not_before: None,
        deadline: Utc::now(),
        cancel: CancellationToken::new(),
    };
    house.local.builder(qemu.clone()).build(&request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_from_a_base_image() {
    if !only_root("mount a small disk").unwrap() {
        return;
    }
    let house = House::new();
    let file = base(house.dir.path());
    let server = web::Server::start().unwrap();
    let url = server.publish("/base.raw", fs::read(&file).unwrap());
    let sha256 = run("sha256sum", &[file.to_str().unwrap()])[..64].to_owned();
    let (path, mib) = (spec_of(ImageSource::Path(file), None), 1024);
    let url = spec_of(ImageSource::Url(url), Some(sha256));
    for (qemu, leave, what) in [
        (&path, 0, "store.json"),
        (&path, 4 * mib, "write "),
        (&path, 12 * mib, "unpack the base image to "),
        (&path, 16 * mib + 128, "write "),
        (&url, 4 * mib, ".partial"),
        (&url, 12 * mib, "disk.base"),
    ] {
        let point = format!("{leave} KiB, {what}");
        house.disk.relieve();
        house.disk.leave(leave);
        let told = house.assert_told(&point, &build(&house, qemu).await.unwrap_err());
        assert!(told.contains(what), "{point}: {told}");
        house.disk.relieve();
        forget_download(&house);
        house.assert_nothing_left(&point);
    }
    // Folders and files, each of which is the one that finds no place.
    let (mut points, mut told) = (Points::new(), BTreeSet::new());
    let image = loop {
        let point = points.files(&house.disk);
        match build(&house, &path).await {
            Err(error) => {
                let text = house.assert_told(&point, &error);
                told.insert(what(&text));
                house.disk.relieve();
                house.assert_nothing_left(&point);
            }
            Ok(Built::Fresh(image)) => break image,
            Ok(shared) => panic!("{shared:?}"),
        }
    };
    println!("{told:#?}");
    assert!(told.len() >= 5, "{told:#?}");
    house.disk.relieve();
    assert!(house.local.store.get(&image.id).unwrap().disk.unwrap().intact);
    assert_eq!(house.local.store.holders(&image.id).unwrap().len(), 1);
    build(&house, &url).await.unwrap();
}

/// QEMU stops a guest whose disk cannot grow: nobody waits for what it was asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_of_the_finished_image() {
    if !only_root("mount a small disk").unwrap() {
        return;
    }
    let base = debian::disk().await;
    let house = House::new();
    house.disk.relieve();
    let command = "head -c 128M /dev/urandom > /srv/big && sync".into();
    let check = Check { name: "it writes".into(), command };
    let spec = ImageSpec { checks: vec![check], ..image(Vec::new()) };
    let qemu = QemuImageSpec { disk_size_gb: 4, ..spec_of(ImageSource::Path(base), None) };
    let log = house.local.store.logs().join("latest-test.log");
    let filled = async {
        while !fs::read_to_string(&log).is_ok_and(|text| text.contains("Checking: ")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        house.disk.leave(4 << 10);
        Instant::now()
    };
    let (built, since) = tokio::join!(build_of(&house, spec, &qemu), filled);
    let told = house.assert_told("a check", &built.unwrap_err());
    assert!(told.contains("run a command in the guest, whose disk is in "), "{told}");
    assert!(since.elapsed() < Duration::from_secs(120), "{:?}", since.elapsed());
    house.assert_nothing_left("a check");
}

/// A whole download stays: the next build would fetch the same.
fn forget_download(house: &House) {
    for entry in fs::read_dir(house.local.cache_dir.join("downloads")).into_iter().flatten().flatten() {
        if entry.file_name().len() == 64 {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

/// A store with one image in it, whose disk is empty.
fn put(store: &Store) -> Result<String, BackendError> {
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

fn machine(image_id: String) -> VmRequest {
    let (public_key, private_key_path, host, port) = (None, None, None, None);
    VmRequest {
        spec: VmSpec {
            name: "dev".into(),
            power_state: PowerState::Running,
            user_data: None,
            user_data_is_secret: false,
            ssh: SshAccess { username: "ann".into(), public_key, private_key_path, host, port },
            wait_for: WaitFor::None,
            tags: BTreeMap::new(),
        },
        image_id,
        inputs: serde_json::json!({}),
        managed_tags: BTreeSet::new(),
        deadline: Utc::now() + chrono::TimeDelta::hours(1),
        stop: CancellationToken::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine() {
    if !only_root("mount a small disk").unwrap() {
        return;
    }
    let house = House::new();
    house.disk.relieve();
    let request = machine(put(&house.local.store).unwrap());
    let arch = Arch::host().unwrap();
    let shape = QemuVmSpec { arch, cpus: 1, memory_mb: 256, disk_size_gb: None, ports: BTreeMap::new() };
    let (launcher, cancel) = (house.local.launcher(shape), CancellationToken::new());
    let mut points = Points::new();
    for by_files in [false, true] {
        let mut told = BTreeSet::new();
        loop {
            let point = if by_files { points.files(&house.disk) } else { points.space(&house.disk) };
            let mut in_state = None;
            let made = launcher.create(&request, &mut |vm| in_state = Some(vm.id.clone()), &cancel).await;
            let vms = || {
                let mut found = Vec::new();
                list(&house.local.store.vms(), &mut found);
                found
            };
            match made {
                Ok(vm) => in_state = Some(vm.id),
                Err(error) => {
                    let text = house.assert_told(&point, &error);
                    told.insert(what(&text));
                    if in_state.is_none() {
                        assert_eq!(vms(), Vec::<PathBuf>::new(), "{point}: no state knows of it");
                    }
                }
            }
            let is_made = runs(&house, in_state.as_deref()).await;
            // What is in state goes by a destroy, for which a full disk has room.
            if let Some(id) = &in_state {
                VmBackend::destroy(&*house.local, id, &cancel).await.unwrap();
            }
            assert_eq!(vms(), Vec::<PathBuf>::new(), "{point}");
            if is_made {
                break;
            }
        }
        println!("{told:#?}");
        assert!(told.len() >= 3 + 2 * usize::from(by_files), "{told:#?}");
    }
    house.disk.relieve();
    let image = &request.image_id;
    house.local.store.release(image, house.local.store.holders(image).unwrap().first(), false).unwrap();
    house.assert_nothing_left("all is destroyed");
}

/// Whether the machine runs.
async fn runs(house: &House, id: Option<&str>) -> bool {
    let Some(id) = id else { return false };
    VmBackend::get(&*house.local, id).await.is_ok_and(|vm| vm.status == PowerState::Running)
}

#[test]
fn what_is_begun_in_a_cloud() {
    if !only_root("mount a small disk").unwrap() {
        return;
    }
    let house = House::new();
    let journal = Journal::of_launches(house.local.store.root());
    let mut points = Points::new();
    for by_files in [false, true] {
        let mut failures = 0;
        let record = loop {
            let point = if by_files { points.files(&house.disk) } else { points.space(&house.disk) };
            let launch = Launch {
                launch: Uuid::new_v4(),
                cloud: "aws".into(),
                region: "us-west-2".into(),
                name: "web".into(),
                access: serde_json::Value::Null,
                started_at: Utc::now(),
                deadline: Utc::now(),
            };
            match journal.begin(launch) {
                Ok(record) => break record,
                Err(error) => {
                    failures += 1;
                    let told = diagnose::chain(&error);
                    for words in ["o space left", "launches", "`data_dir`"] {
                        assert!(told.contains(words), "{point}: no {words:?} in {told}");
                    }
                    let mut left = Vec::new();
                    list(&house.local.store.root().join("launches"), &mut left);
                    assert!(left.is_empty(), "{point}: {left:?}");
                }
            }
        };
        assert!(failures > usize::from(by_files), "{failures}");
        record.end().unwrap();
        house.assert_nothing_left("it has ended");
    }
}

/// The cache on a small disk, with the layers that there are on this computer.
struct Layers(PathBuf);

impl Layers {
    fn bind(cache_dir: &Path) -> Self {
        let (there, here) = (image::host().cache_dir, cache_dir.join("trees/area/layers"));
        let there = there.join("trees/area/layers");
        for dir in [&there, &here] {
            fs::create_dir_all(dir).unwrap();
        }
        run("mount", &["--bind", there.to_str().unwrap(), here.to_str().unwrap()]);
        Self(here)
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_in_a_tree() {
    if !only_root("mount a small disk").unwrap() {
        return;
    }
    let site = image::Site::new();
    // The layer is there.
    debian::disk().await;
    let disk = Disk::mount(&site.dir.path().join("disk"));
    disk.relieve();
    let cache_dir = disk.0.join("cache");
    let layers = Layers::bind(&cache_dir);
    let host = Host { cache_dir: cache_dir.clone(), ..image::host() };
    let big = site.dir.path().join("big");
    fs::write(&big, vec![1; 8 << 20]).unwrap();
    let upload = Action::Upload { source: big, destination: "/opt/big".into(), mode: None, owner: None };
    let writes = inline(&["head -c 8M /dev/zero > /opt/big"]);
    for (steps, leave, what) in [
        (vec![writes.clone()], 4 << 10, "run step 1 "),
        (vec![step(upload)], 4 << 10, "upload.tar"),
        (Vec::new(), 16 << 10, "make the root file system "),
        (vec![writes], 0, "work"),
    ] {
        disk.relieve();
        disk.leave(leave);
        let began = Instant::now();
        let error = site.build_on(&host, &image(steps), &small()).await.unwrap_err();
        assert!(matches!(error, BuildError::NoSpace { .. }), "{what}: {error:?}");
        let told = error.to_string();
        for words in [what, &cache_dir.display().to_string(), "Free some space"] {
            assert!(told.contains(words), "{what}: no {words:?} in {told}");
        }
        let mut left = Vec::new();
        list(&cache_dir.join("trees/area/work"), &mut left);
        assert!(left.is_empty(), "{what}: {left:?}");
        println!("{told}: {:?}", began.elapsed());
    }
    drop(layers);
}

/// The packages of a whole system, of which the first ones find no room.
#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap() {
    if !only_root("mount a small disk").unwrap() {
        return;
    }
    let site = image::Site::new();
    let disk = Disk::mount(&site.dir.path().join("disk"));
    let cache_dir = disk.0.join("cache");
    let host = Host { cache_dir: cache_dir.clone(), ..image::host() };
    disk.leave(8 << 10);
    let began = Instant::now();
    let error = site.build_on(&host, &image(Vec::new()), &small()).await.unwrap_err();
    let told = error.to_string();
    assert!(matches!(error, BuildError::NoSpace { .. }), "{error:?}");
    let begun = format!("bootstrap {} in ", acceptance_tests::suite().unwrap());
    assert!(told.contains(&begun) && told.contains("Free some space"), "{told}");
    let mut left = Vec::new();
    list(&cache_dir.join("trees/area"), &mut left);
    left.retain(|path| {
        path.extension().is_none_or(|extension| extension != "lock")
            && path.parent() != Some(&cache_dir.join("trees/area"))
    });
    assert!(left.is_empty(), "{left:?}");
    assert!(began.elapsed() < Duration::from_secs(300), "{:?}", began.elapsed());
    println!("{:?}", began.elapsed());
}
