//! What a program in a tree can reach, for root and for an ordinary user.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use acceptance_tests::user;
use sindri::process::enter::{Door, ENV_PREFIX, Entry, Network, PORT, ROOT_MAP_START, Tree};
use tokio::io::AsyncWriteExt;

use crate::support::image::run;

const PROVIDER: &str = env!("CARGO_BIN_EXE_terraform-provider-sindri");

/// Runs a program whose calls of `pivot_root` are refused.
const WITHOUT_PIVOT_ROOT: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/builds/support/without_pivot_root.py");

/// Tries everything by which a tree was once left, with nothing but the shell's own words: a link in the stage, process 1's
/// root, folder and files.
const BREAK_OUT: &str = r#"
    ( : >/run/sindri/mine ) 2>/dev/null && echo "writes into the stage"
    test "$(cat /run/sindri/script)" = staged || echo "does not see the stage"
    for way in /proc/1/root /proc/1/cwd /proc/self/root; do
        test "$way/" -ef / || echo "$way leads out"
        ( cd "$way/mnt" && for found in *; do test "$found" = "*" || echo "$way/mnt has $found"; done )
    done
    for file in /proc/1/fd/*; do
        test ! -d "$file" || echo "$file is a folder"
    done
    while read -r line; do
        case $line in *" /mnt "*) echo "mounted: $line" ;; esac
    done </proc/self/mounts
    test -c /dev/null && test -e /sys/kernel && test -e /proc/self/mounts && test -x /usr/sbin/policy-rc.d || echo "lacks something"
    ( : >/made ) || echo "cannot write"
    exit 7
"#;

/// Asks who serves the network's one port, twice at a time, and tries to get past it.
const REACH_OUT: &str = r#"
    exec 3<>"/dev/tcp/127.0.0.1/$SERVED" 4<>"/dev/tcp/127.0.0.1/$SERVED" && cat <&4 && cat <&3
    ( exec 5<>"/dev/tcp/127.0.0.1/$OTHER" ) 2>/dev/null && echo "reaches the host"
    ( exec 5<>/dev/tcp/192.0.2.1/80 ) 2>/dev/null && echo "has a way out"
    test ! -e /etc/resolv.conf || echo "asks for names"
    test -z "${http_proxy:-}" || echo "knows the host's proxy"
    exit 7
"#;

/// A tree that holds a shell and `cat` with what they load, and whose owner is `owner`.
fn layer(folder: &Path, owner: u32) {
    for name in ["proc", "sys", "dev", "run", "mnt", "usr/sbin", "etc", "bin"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    for program in ["sh", "cat", "bash"] {
        let found = fs::canonicalize(Path::new("/bin").join(program)).unwrap();
        fs::copy(&found, folder.join("bin").join(program)).unwrap();
        let loaded = run("ldd", &[found.to_str().unwrap()]);
        for library in loaded.split_whitespace().filter(|word| word.starts_with('/')) {
            let to = folder.join(library.trim_start_matches('/'));
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(library, to).unwrap();
        }
    }
    let owner = format!("{owner}:{owner}");
    run("chown", &["-R", &owner, folder.to_str().unwrap()]);
}

/// A script run in the tree in `work`.
fn entry(shell: &str, script: &str) -> Entry {
    let mut entry = Entry::new(shell).args(["-c", script]);
    entry.chroot = true;
    entry.status = Some("work/status".into());
    let [upper, scratch, root, stage] =
        ["upper", "scratch", "root", "stage"].map(|it| PathBuf::from("work").join(it));
    entry.tree = Some(Tree { layer: "layer".into(), upper, scratch, root, stage: Some(stage) });
    entry
}

/// What a program in the tree that [`said`] has left says of its network, which is served by us.
async fn said_of_network(area: &Path, program: &Path) -> String {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let door = Door::open(&area.join("work"), "door").unwrap();
    let _ = fs::remove_file(area.join("work/status"));
    let entry = Entry { network: Network::Served("work/door".into()), ..entry("/bin/bash", REACH_OUT) };
    let mut command = tokio::process::Command::new(program);
    command.arg("enter").arg(entry.to_arg()).current_dir(area);
    command.env(format!("{ENV_PREFIX}SERVED"), PORT.to_string());
    command.env(format!("{ENV_PREFIX}OTHER"), other.local_addr().unwrap().port().to_string());
    // Which the tree does not know.
    command.env(format!("{ENV_PREFIX}LC_ALL"), "C");
    command.env("http_proxy", "http://user:canary@127.0.0.1:9");
    let served = async {
        let listener = door.listener().await.unwrap();
        let (mut first, _) = listener.accept().await.unwrap();
        let (mut second, _) = listener.accept().await.unwrap();
        second.write_all(b"two ").await.unwrap();
        first.write_all(b"one ").await.unwrap();
        drop((first, second));
        std::future::pending::<()>().await;
    };
    let output = tokio::select! {
        output = command.output() => output.unwrap(),
        () = served => unreachable!(),
    };
    other.set_nonblocking(true).unwrap();
    assert!(other.accept().is_err(), "somebody came to the host's port");
    let status = fs::read_to_string(area.join("work/status")).unwrap_or_default();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    format!("{status}|{}{error}", String::from_utf8_lossy(&output.stdout))
}

/// What a program in a tree says of its prison, entered by `program`, whose namespace's root is `owner` on the host.
fn said(area: &Path, program: &Path, owner: u32) -> String {
    layer(&area.join("layer"), owner);
    for (name, mode) in [("work", 0o777), ("work/root", 0o777), ("work/stage", 0o755)] {
        fs::create_dir(area.join(name)).unwrap();
        fs::set_permissions(area.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::write(area.join("work/stage/script"), "staged").unwrap();
    let entry = entry("/bin/sh", BREAK_OUT);
    let output = Command::new(program).arg("enter").arg(entry.to_arg()).current_dir(area).output().unwrap();
    let status = fs::read_to_string(area.join("work/status")).unwrap_or_default();
    assert!(area.join("work/upper/made").exists(), "the tree's changes are lost");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    format!("{status}|{}{error}", String::from_utf8_lossy(&output.stdout))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_is_all_there_is_and_a_network_may_end_at_us() {
    if !rustix::process::geteuid().is_root() {
        println!(
            "note: not run: only root can make a tree for others; what steps reach is in image_tree, too"
        );
        return;
    }
    let provider = Path::new(PROVIDER);
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let area = dir.path().join("area");
    fs::create_dir(&area).unwrap();
    assert_eq!(said(&area, provider, ROOT_MAP_START), "7|");
    assert_eq!(said_of_network(&area, provider).await, "7|two one ");

    let folder = dir.path().join("user");
    fs::create_dir(&folder).unwrap();
    let program = user::program(&folder, provider).unwrap();
    let area = folder.join("area");
    fs::create_dir(&area).unwrap();
    let told = said(&area, &program, user::SUBORDINATE_START);
    let of_network = said_of_network(&area, &program).await;
    // mmdebstrap adds words of its own to a program that failed.
    for (told, expected) in [(told, "7|"), (of_network, "7|two one ")] {
        let mut lines = told.strip_prefix(expected).unwrap_or("is another").lines();
        assert!(lines.all(|line| line.is_empty() || line.starts_with("E: ")), "{told}");
    }
}

/// What `doctor` says of namespaces, and that it leaves nothing.
fn examined(mut doctor: Command, cache_dir: &Path) -> String {
    let output = doctor.env("XDG_CACHE_HOME", cache_dir).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for folder in [cache_dir, &cache_dir.join("sindri")] {
        let names = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with(".tmp")).collect();
        assert_eq!(left, [""; 0], "what was tried stays: {text}");
    }
    let row = text.lines().skip_while(|line| !line.ends_with(" user namespaces")).take(2);
    row.map(|line| format!("{}\n", line.trim())).collect()
}

#[test]
fn what_a_step_in_a_tree_needs_is_tried_before() {
    let fine = "ok         user namespaces\nbuilds without a boot are isolated\n";
    let dir = tempfile::tempdir().unwrap();
    let cache_dir = dir.path().join("cache");
    fs::create_dir(&cache_dir).unwrap();
    let mut doctor = Command::new(PROVIDER);
    doctor.arg("doctor");
    assert_eq!(examined(doctor, &cache_dir), fine);
    if !rustix::process::geteuid().is_root() {
        println!("note: not run: only root gets so far where system calls are filtered");
        return;
    }
    let mut filtered = Command::new("python3");
    filtered.args([WITHOUT_PIVOT_ROOT, PROVIDER, "doctor"]);
    let told = examined(filtered, &cache_dir);
    assert!(told.starts_with("unusable ") && told.contains("forbids pivot_root"), "{told}");

    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let folder = dir.path().join("user");
    fs::create_dir(&folder).unwrap();
    let program = user::program(&folder, Path::new(PROVIDER)).unwrap();
    let cache_dir = folder.join("cache");
    fs::create_dir(&cache_dir).unwrap();
    user::give(&folder).unwrap();
    let mut doctor = Command::new(program);
    doctor.arg("doctor");
    assert_eq!(examined(doctor, &cache_dir), fine);
}
