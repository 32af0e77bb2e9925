//! `packer init`, once per run of ours for each Packer and set of plugins, and never twice at a time on this computer:
//! parallel runs would write the same plugin files.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::command::{self, Call};
use super::{Packer, PackerError, Version};
use crate::process::lock::{self, How};
use crate::process::{BuildLog, Limits, ProcessError, Runner, private};

/// How long plugins may take to come.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// Where a builder that a template uses comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plugins {
    /// It is part of the program: no `required_plugins`, which the oldest versions refuse.
    Bundled,
    /// It is a program of its own: the template requires it in a version, and `packer init` gets it.
    Required,
}

impl Plugins {
    /// What to try with this version, in order. HashiCorp's own 1.10 has no plugins any more, other makers' has.
    pub fn to_try(version: Version) -> &'static [Self] {
        if version < Version::new(1, 10, 0) {
            &[Self::Bundled]
        } else if version < Version::new(1, 11, 0) {
            &[Self::Bundled, Self::Required]
        } else {
            &[Self::Required]
        }
    }
}

/// What has been initialised in this process: program, plugin folder, what a template requires.
type Done = HashSet<(PathBuf, Option<std::ffi::OsString>, String)>;

/// Has `packer init` get what the template in `call` requires, unless that was done or is not wanted. `required` names
/// it; `lock_dir` is a folder that all runs on this computer share.
///
/// # Errors
/// [`PackerError::Init`] with what Packer said.
pub(super) async fn init(
    packer: &Packer,
    call: &Call<'_>,
    required: &str,
    lock_dir: &Path,
    runner: &Runner,
    log: &BuildLog,
    cancel: &CancellationToken,
) -> Result<(), PackerError> {
    static DONE: LazyLock<tokio::sync::Mutex<Done>> = LazyLock::new(Default::default);
    if packer.skip_init {
        return Ok(());
    }
    let plugins = packer.env.get(std::ffi::OsStr::new("PACKER_PLUGIN_PATH")).cloned();
    let key = (packer.program.clone(), plugins, required.to_owned());
    // Held to the end, so that parallel builds of this process wait for the first.
    let mut done = tokio::select! {
        done = DONE.lock() => done,
        () = cancel.cancelled() => return Err(cancelled()),
    };
    if done.contains(&key) {
        return Ok(());
    }
    let _lock = lock(lock_dir, cancel).await?;
    log.step("Getting Packer's plugins");
    let limits = Limits { cancel: cancel.clone(), timeout: Some(LIMIT) };
    let finished = runner.run(&command::init(packer, call), Some(log), &limits).await?;
    // Some builds of Packer end with code 0 whatever happened.
    if finished.code != 0 || finished.output.contains("Failed getting the") {
        let error = PackerError::Init { output: finished.output.trim().to_owned() };
        return Err(error.naming_a_full_disk(&[call.tmp, call.cwd]));
    }
    done.insert(key);
    Ok(())
}

fn cancelled() -> PackerError {
    ProcessError::Cancelled { program: "packer".to_owned() }.into()
}

async fn lock(dir: &Path, cancel: &CancellationToken) -> Result<File, PackerError> {
    private::create_dir(dir).map_err(PackerError::io("create", dir))?;
    let path = dir.join("packer-init.lock");
    let file = lock::open(&path).map_err(PackerError::io("open", &path))?;
    let attempt = || {
        let ours = lock::try_lock(&file, How::Exclusive).map_err(PackerError::io("lock", &path))?;
        Ok(ours.then_some(()))
    };
    lock::wait(&path, cancel, attempt, PackerError::Busy).await?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_its_builders_in_it() {
        use Plugins::{Bundled, Required};
        for (minor, expected) in [
            (6, &[Bundled][..]),
            (9, &[Bundled]),
            (10, &[Bundled, Required]),
            (11, &[Required]),
            (14, &[Required]),
        ] {
            assert_eq!(Plugins::to_try(Version::new(1, minor, 3)), expected, "1.{minor}");
        }
    }
}
