//! What is written of a build from a base image.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use acceptance_tests::{only_root, web};
use chrono::Utc;
use sindri::backends::qemu::{Base, ImageSource, QemuImageSpec};
use sindri::domain::cache_key::{CacheKey, KeyInputs};
use sindri::domain::{BackendError, BuildRequest, Built, Check, Holder, ImageBuilder, ImageSpec, Labels};
use tokio_util::sync::CancellationToken;

use super::{House, what};
use crate::support::image::{image, run, small};
use crate::support::small_disk::Points;
use crate::support::{debian, in_time, meanwhile};

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
    QemuImageSpec { base, disk_size_gb: 1, ..small() }
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
    let log = || fs::read_to_string(house.local.store.logs().join("latest-test.log")).unwrap_or_default();
    in_time(house.local.builder(qemu.clone()).build(&request), log).await
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
    // Not before the disk is full.
    let command = "sleep 2 && head -c 32M /dev/zero > /srv/big && sync".into();
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
    let (built, since) = meanwhile(build_of(&house, spec, &qemu), filled).await;
    let told = house.assert_told("a check", &built.unwrap_err());
    assert!(told.contains("run a command in the guest, whose disk is in "), "{told}");
    let since = since.expect("its disk was full before the check");
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
