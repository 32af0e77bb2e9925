//! What a program in a tree can reach, for root and for an ordinary user.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use acceptance_tests::user;
use sindri::process::enter::{Entry, ROOT_MAP_START, Tree};

use crate::support::image::run;

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

/// A tree that holds a shell and `cat` with what they load, and whose owner is `owner`.
fn layer(folder: &Path, owner: u32) {
    for name in ["proc", "sys", "dev", "run", "mnt", "usr/sbin", "etc", "bin"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    for program in ["sh", "cat"] {
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

/// What a program in a tree says of its prison, entered by `program`, whose namespace's root is `owner` on the host.
fn said(area: &Path, program: &Path, owner: u32) -> String {
    layer(&area.join("layer"), owner);
    for (name, mode) in [("work", 0o777), ("work/root", 0o777), ("work/stage", 0o755)] {
        fs::create_dir(area.join(name)).unwrap();
        fs::set_permissions(area.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::write(area.join("work/stage/script"), "staged").unwrap();
    let mut entry = Entry::new("/bin/sh").args(["-c", BREAK_OUT]);
    entry.chroot = true;
    entry.status = Some("work/status".into());
    let [upper, scratch, root, stage] =
        ["upper", "scratch", "root", "stage"].map(|it| PathBuf::from("work").join(it));
    entry.tree = Some(Tree { layer: "layer".into(), upper, scratch, root, stage: Some(stage) });
    let output = Command::new(program).arg("enter").arg(entry.to_arg()).current_dir(area).output().unwrap();
    let status = fs::read_to_string(area.join("work/status")).unwrap_or_default();
    assert!(area.join("work/upper/made").exists(), "the tree's changes are lost");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    format!("{status}|{}{error}", String::from_utf8_lossy(&output.stdout))
}

#[test]
fn a_tree_is_all_there_is() {
    if !rustix::process::geteuid().is_root() {
        println!(
            "note: not run: only root can make a tree for others; what steps reach is in image_tree, too"
        );
        return;
    }
    let provider = Path::new(env!("CARGO_BIN_EXE_terraform-provider-sindri"));
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let area = dir.path().join("area");
    fs::create_dir(&area).unwrap();
    assert_eq!(said(&area, provider, ROOT_MAP_START), "7|");

    let folder = dir.path().join("user");
    fs::create_dir(&folder).unwrap();
    let program = user::program(&folder, provider).unwrap();
    let area = folder.join("area");
    fs::create_dir(&area).unwrap();
    let told = said(&area, &program, user::SUBORDINATE_START);
    // mmdebstrap adds words of its own to a program that failed.
    assert!(
        told.starts_with("7|") && told.lines().all(|line| line.starts_with("7|") || line.starts_with("E: ")),
        "{told}"
    );
}
