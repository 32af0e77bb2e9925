//! What a killed supervisor leaves: the kernel ends its child, and the child's own children live on where they do not notice
//! it. A plugin of Packer's waits for ever to be called by a Packer that was killed in that moment.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal};

/// Kills every process that has its temporary files in this folder, which nobody works in any more. A user's shell that
/// only looks at the folder has them elsewhere; a supervisor that has us clean up after its program has them there, and stays.
pub fn end_those_of(dir: &Path) {
    let ours = ancestry();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let Some(pid) = pid.filter(|pid| !ours.contains(&pid.as_raw_nonzero().get())) else { continue };
        if temporary_files(&entry.path()).is_some_and(|tmp| tmp.starts_with(dir)) {
            tracing::info!(pid = pid.as_raw_nonzero(), folder = %dir.display(), "ending what a killed build left");
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

/// Where a process has its temporary files. Other users' processes do not show it, nor could they be ours.
fn temporary_files(process: &Path) -> Option<PathBuf> {
    let environment = fs::read(process.join("environ")).ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    let tmp = variables.find_map(|variable| variable.strip_prefix(b"TMPDIR="))?;
    // Packer has it relative to where it runs: the paths of its sockets are to be short.
    let cwd = fs::read_link(process.join("cwd")).ok()?;
    let cwd = cwd.as_os_str().as_bytes();
    let cwd = cwd.strip_suffix(b" (deleted)").unwrap_or(cwd);
    Some(Path::new(OsStr::from_bytes(cwd)).join(OsStr::from_bytes(tmp)))
}

/// This process and all above it.
fn ancestry() -> BTreeSet<i32> {
    let mut all = BTreeSet::new();
    let mut next = Some(rustix::process::getpid().as_raw_nonzero().get());
    while let Some(pid) = next.filter(|pid| all.insert(*pid)) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        next = parent.and_then(|parent| parent.trim().parse().ok()).filter(|parent| *parent > 0);
    }
    all
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_those_whose_temporary_files_are_there_end() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, beside) = (dir.path().join("build"), dir.path().join("build-2"));
        for folder in [&ours, &beside] {
            fs::create_dir(folder).unwrap();
        }
        let sleeping = |tmp: &Path, cwd: &Path| {
            Command::new("sleep").arg("60").env("TMPDIR", tmp).current_dir(cwd).spawn().unwrap()
        };
        let left = [sleeping(&ours.join("tmp"), dir.path()), sleeping(Path::new("packer/tmp"), &ours)];
        let others = [sleeping(&beside, &ours), sleeping(Path::new("packer/tmp"), &beside)];
        end_those_of(&ours);
        for mut one in left {
            assert!(!one.wait().unwrap().success());
        }
        for mut other in others {
            assert!(other.try_wait().unwrap().is_none(), "another build's");
            other.kill().unwrap();
            other.wait().unwrap();
        }
    }

    /// As the sweep by a supervisor, which has its program's temporary files, and so has the sweep.
    #[test]
    fn who_cleans_up_and_whoever_has_it_do_so_stay() {
        const INNER: &str = "SINDRI_TEST_ENDS_THOSE_OF";
        let name = "process::leftover::tests::who_cleans_up_and_whoever_has_it_do_so_stay";
        if let Some(dir) = std::env::var_os(INNER) {
            return end_those_of(Path::new(&dir));
        }
        let dir = tempfile::tempdir().unwrap();
        let script = r#""$@"; exit $?"#;
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh"]).arg(std::env::current_exe().unwrap()).args([name, "--exact"]);
        let ended = shell.env("TMPDIR", dir.path()).env(INNER, dir.path()).status().unwrap();
        assert!(ended.success(), "{ended}");
    }
}
