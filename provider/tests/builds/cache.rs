//! What the cache keeps for builds goes when somebody says so: for root, and for an ordinary user, to whom its files do not
//! belong.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use acceptance_tests::{only_root, user};
use sindri::process::enter::ROOT_MAP_START;
use sindri::process::lock::{self, How};

use crate::support::image::run;
use crate::support::small_disk::Disk;

const PROVIDER: &str = env!("CARGO_BIN_EXE_terraform-provider-sindri");

const ABOUT: &str = r#"{ "resolved_base": "Debian bookworm 12.5", "epoch": 0, "made": 1769817600 }"#;

/// Builds, of which the second goes on.
const BUILDS: [&str; 2] = ["0b54b6f9-7e1c-4a1e-9b0a-3c8d5e6f7a81", "1b54b6f9-7e1c-4a1e-9b0a-3c8d5e6f7a81"];

/// A home with a cache in it, and the program as its owner runs it.
struct Home {
    cache: PathBuf,
    program: PathBuf,
    owner: u32,
}

impl Home {
    /// Two layers, half of a third, and two builds' trees. `inside` is the namespace's root on the host.
    fn make(folder: &Path, program: PathBuf, inside: u32) -> Self {
        let owner = fs::metadata(folder).unwrap().uid();
        let home = Self { cache: folder.join("cache"), program, owner };
        for digit in ['a', 'b'] {
            let whole = home.tree(&format!("layers/{}", layer(digit)));
            fs::write(whole.join("layer.json"), ABOUT).unwrap();
        }
        home.tree(&format!("layers/{}.partial", layer('c')));
        for build in BUILDS {
            home.tree(&format!("work/{build}"));
        }
        let locks = [layer('a'), layer('b')].map(|id| format!("layers/{id}.lock"));
        for lock in locks.into_iter().chain(BUILDS.map(|build| format!("work/{build}.lock"))) {
            lock::open(&home.area().join(lock)).unwrap();
        }
        run("chown", &["-R", &format!("{owner}:{owner}"), home.cache.to_str().unwrap()]);
        for name in home.names() {
            let root = home.area().join(name).join("root");
            run("chown", &["-R", &format!("{inside}:{inside}"), root.to_str().unwrap()]);
        }
        home
    }

    fn area(&self) -> PathBuf {
        self.cache.join("sindri/trees/area")
    }

    /// Of 3 MiB, in a folder that is closed to all but its owner.
    fn tree(&self, name: &str) -> PathBuf {
        let folder = self.area().join(name);
        let closed = folder.join("root/closed");
        fs::create_dir_all(&closed).unwrap();
        fs::write(closed.join("data"), vec![1; 3 << 20]).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        folder
    }

    /// What is there but for locks.
    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for folder in ["layers", "work"] {
            let entries = fs::read_dir(self.area().join(folder)).unwrap().flatten();
            names.extend(entries.map(|entry| format!("{folder}/{}", entry.file_name().to_string_lossy())));
        }
        names.retain(|name| !name.ends_with(".lock"));
        names.sort();
        names
    }

    /// As somebody who works with it.
    fn hold(&self, lock: &str, how: How) -> File {
        let file = File::open(self.area().join(lock)).unwrap();
        assert!(lock::try_lock(&file, how).unwrap());
        file
    }

    /// By hand; whether it went well, and what it said.
    fn prune(&self, more: &[&str]) -> (bool, String) {
        let mut command = Command::new(&self.program);
        command.args(["prune", "--layers"]).args(more).env("XDG_CACHE_HOME", &self.cache);
        let output = command.env("XDG_DATA_HOME", self.cache.join("data")).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    }

    /// Nothing is left that its owner could not remove.
    fn assert_own(&self, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().uid(), self.owner, "{}", entry.path().display());
            if entry.file_type().unwrap().is_dir() {
                self.assert_own(&entry.path());
            }
        }
    }

    fn lives(&self) {
        let layer_in_use = self.hold(&format!("layers/{}.lock", layer('b')), How::Shared);
        let build = self.hold(&format!("work/{}.lock", BUILDS[1]), How::Exclusive);
        let all = self.names();
        assert_eq!(all.len(), 5);
        let gone = [
            "layer aaaaaaaaaaaa (Debian bookworm 12.5, made on 2026-01-31): 4 MiB",
            "what there is of layer cccccccccccc: 4 MiB",
            &format!("the tree of build {}, which ended: 4 MiB", BUILDS[0]),
        ];
        let told = |removed: &str, freed: &str| {
            let lines: String = gone.iter().map(|line| format!("{removed} {line}\n")).collect();
            format!("{lines}{freed} 10 MiB\n2 in the cache stay: builds use them\n")
        };
        assert_eq!(self.prune(&["--dry-run"]), (true, told("would remove", "would free")));
        assert_eq!(self.names(), all);
        assert_eq!(self.prune(&[]), (true, told("removed", "freed")));
        assert_eq!(self.names(), [format!("layers/{}", layer('b')), format!("work/{}", BUILDS[1])]);

        drop((layer_in_use, build));
        let (ok, text) = self.prune(&[]);
        assert!(ok && text.ends_with("freed 7 MiB\n"), "{text}");
        assert_eq!(self.names(), [""; 0]);
        self.assert_own(&self.cache);
        assert_eq!(self.prune(&[]), (true, "nothing to remove\n".to_owned()));
    }
}

fn layer(digit: char) -> String {
    digit.to_string().repeat(64)
}

#[test]
fn what_no_build_uses_is_removed_by_hand() {
    if !only_root("make a tree for others").unwrap() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let folder = dir.path().join("root");
    fs::create_dir(&folder).unwrap();
    Home::make(&folder, PROVIDER.into(), ROOT_MAP_START).lives();

    let folder = dir.path().join("user");
    fs::create_dir(&folder).unwrap();
    let program = user::program(&folder, Path::new(PROVIDER)).unwrap();
    user::give(&folder).unwrap();
    Home::make(&folder, program, user::SUBORDINATE_START).lives();
}

/// Half of a layer is none, for whatever reason the other half went.
#[test]
fn a_layer_of_which_something_stays_is_none() {
    if !only_root("mount a disk in a layer").unwrap() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let home = Home::make(dir.path(), PROVIDER.into(), ROOT_MAP_START);
    let one = home.area().join("layers").join(layer('a'));
    let busy = Disk::mount(&one.join("root/busy"));
    let (ok, text) = home.prune(&[]);
    assert!(!ok && text.contains("Removing layers from the cache failed"), "{text}");
    assert!(one.exists() && !one.join("layer.json").exists());
    drop(busy);
    let (ok, text) = home.prune(&[]);
    assert!(ok && text.contains("what there is of layer aaaaaaaaaaaa"), "{text}");
    assert_eq!(home.names(), [""; 0]);
}
