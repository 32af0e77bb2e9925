//! What is written of a build in a tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use acceptance_tests::only_root;
use sindri::backends::qemu::image::{BuildError, Host};
use sindri::domain::Action;

use super::list;
use crate::support::debian;
use crate::support::image::{self, image, inline, run, small, step};
use crate::support::small_disk::Disk;

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
