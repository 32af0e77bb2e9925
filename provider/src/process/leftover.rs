//! What a killed supervisor leaves: the kernel ends its child, and the child's own children live on where they do not notice
//! it. A plugin of Packer's waits for ever to be called by a Packer that was killed in that moment.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::{Pid, Signal};

/// Kills every process that has its temporary files in this folder, which nobody works in any more. A user's shell that
/// only looks at the folder has them elsewhere.
pub fn end_those_of(dir: &Path) {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        // Other users' processes do not show theirs, nor could they be ours.
        let (Some(pid), Ok(environment)) = (pid, fs::read(entry.path().join("environ"))) else { continue };
        if is_in(&environment, dir) {
            tracing::info!(pid = pid.as_raw_nonzero(), folder = %dir.display(), "ending what a killed build left");
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

fn is_in(environment: &[u8], dir: &Path) -> bool {
    let mut variables = environment.split(|byte| *byte == 0);
    variables
        .find_map(|variable| variable.strip_prefix(b"TMPDIR="))
        .is_some_and(|tmp| Path::new(OsStr::from_bytes(tmp)).starts_with(dir))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_those_whose_temporary_files_are_there_end() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, beside) = (dir.path().join("build"), dir.path().join("build-2"));
        let sleeping = |tmp: &Path| Command::new("sleep").arg("60").env("TMPDIR", tmp).spawn().unwrap();
        let (mut left, mut other) = (sleeping(&ours.join("tmp")), sleeping(&beside));
        end_those_of(&ours);
        assert!(!left.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none(), "another build's");
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
