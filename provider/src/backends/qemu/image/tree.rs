//! A build's own tree: the layer with what the steps change laid over it. Runs steps in it and packs it.
//!
//! Its files live in `work/<build id>` of the area; nothing is mounted outside the namespaces.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::apt_login::Login;
use super::area::{self, Area};
use super::layer::Layer;
use super::mirrors::{self, Mirrors, Reached};
use super::{BuildError, Host};
use crate::domain::Environment;
use crate::process::enter::{self, Door, ENV_PREFIX, Entry};
use crate::process::lock::How;
use crate::process::{BuildLog, Command, Limits, ProcessError, full_disk, says_no_space, tail};
use crate::provision::{self, RUN_SCRIPT, StepFailure, Task, UPLOAD, Work};

const MKE2FS_CONF: &str = include_str!("../../../../../templates/mke2fs.conf");
const PACK: &str = include_str!("../../../../../templates/scripts/pack-tree.sh");

/// A step's [`Door`], in the build's folder.
const DOOR: &str = "door";

/// How many of a failed step's last lines are shown.
const TAIL: usize = 20;

/// A build's tree.
pub(super) struct Tree<'a> {
    host: &'a Host,
    area: &'a Area,
    log: BuildLog,
    cancel: &'a CancellationToken,
    folder: String,
    layer: String,
    login: Login,
    reached: Reached,
    _lock: File,
}

/// Where the pieces of a packed tree are.
#[derive(Debug)]
pub(super) struct Packed {
    /// A disk of the right size with the root file system in its place and nothing else.
    pub(super) disk: PathBuf,
    /// The EFI system partition's files.
    pub(super) esp: PathBuf,
}

impl<'a> Tree<'a> {
    /// A fresh tree over a layer, for the build `id`.
    ///
    /// # Errors
    /// When its folders cannot be made.
    pub(super) fn create(
        host: &'a Host,
        area: &'a Area,
        layer: &Layer,
        id: Uuid,
        reached: Reached,
        log: &'a BuildLog,
        cancel: &'a CancellationToken,
    ) -> Result<Self, BuildError> {
        let folder = folder(id);
        let lock = claim(area, id)?;
        for part in ["", "/root"] {
            area.make_open(&format!("{folder}{part}"))?;
        }
        // Steps only read there: what they put in it we would write through, or run.
        area.make_ours(&format!("{folder}/stage"))?;
        let root = layer.root.clone();
        let login = match reached {
            Reached::All => layer.reach.login.clone(),
            Reached::Mirrors(_) => layer.reach.login.at_mirrors(),
            Reached::Nothing => Login::default(),
        };
        let log = log.hiding(&login.passwords());
        Ok(Self { host, area, log, cancel, folder, layer: root, login, reached, _lock: lock })
    }

    /// Runs one step.
    ///
    /// # Errors
    /// [`StepFailure`] when it fails, with its last lines.
    pub(super) async fn run(&self, task: &Task) -> Result<(), BuildError> {
        self.log.step(&format!("Provisioning step {}", task.name));
        let (script, name) = match &task.work {
            Work::Script(text) => {
                self.stage("script", text)?;
                (RUN_SCRIPT, String::new())
            }
            Work::Upload { source, .. } => (UPLOAD, self.stage_upload(source).await?),
            Work::Reboot => {
                let why = "a `reboot` step needs a booted guest: set `boot = true`";
                return Err(BuildError::Invalid(why.to_owned()));
            }
        };
        self.in_tree(task, script, &name).await
    }

    /// What has to be done before the first step.
    ///
    /// # Errors
    /// When it cannot be.
    pub(super) async fn prepare(&self) -> Result<(), BuildError> {
        let Reached::Mirrors(_) = self.reached else { return Ok(()) };
        let entry = self.entry("/bin/sh", ["-euc", mirrors::FORGET_PROXIES].map(str::to_owned).into(), true);
        let command = self.area.command(self.host, &entry);
        let done =
            self.host.runner.check(&command, Some(&self.log), &Limits::cancelled_by(self.cancel)).await;
        done.map(drop).map_err(BuildError::tool("prepare the tree for its steps"))
    }

    /// Makes the root file system in a new disk of `size` bytes; `mke2fs` are its options, the size among them. `done` is
    /// whether all steps were: then nothing stays of how they reached mirrors.
    ///
    /// # Errors
    /// [`BuildError::TooSmall`] when the content does not fit.
    pub(super) async fn pack(&self, size: u64, mke2fs: &Mke2fs, done: bool) -> Result<Packed, BuildError> {
        let folder = self.area.host(&self.folder);
        let disk = folder.join("disk.raw");
        // For the namespace's root, who is somebody else; the folder above the area keeps others out.
        let file = area::create_anew(&disk, 0o666)?;
        file.set_len(size).map_err(BuildError::io("size", &disk))?;
        self.stage("mke2fs.conf", MKE2FS_CONF)?;
        let mut args: Vec<String> = ["-euc", PACK, "sh"].map(str::to_owned).into();
        args.extend(
            ["root", "disk.raw", "esp"].map(|name| format!("{}/{}/{name}", enter::AREA, self.folder)),
        );
        args.push(mke2fs.size.clone());
        args.extend(mke2fs.args.iter().cloned());
        let mut command = self.area.command(self.host, &self.entry("sh", args, false));
        let config = format!("{}/{}/stage/mke2fs.conf", enter::AREA, self.folder);
        for (name, value) in mke2fs.env.iter().chain([&("MKE2FS_CONFIG", config)]) {
            command = command.env(format!("{ENV_PREFIX}{name}"), value);
        }
        if done {
            command = command.env(format!("{ENV_PREFIX}SINDRI_STEPS_DONE"), "1");
        }
        let limits = Limits::cancelled_by(self.cancel);
        match self.host.runner.check(&command, Some(&self.log), &limits).await {
            Ok(_) => {}
            Err(error) => {
                let failed =
                    BuildError::tool_in(&folder, format!("make the root file system {}", disk.display()));
                let ProcessError::Failed { tail, .. } = &error else { return Err(failed(error)) };
                let needed_gb = if may_be_full(tail) { self.needed_gb().await? } else { 0 };
                return Err(too_small(size, needed_gb).unwrap_or_else(|| failed(error)));
            }
        }
        file.set_permissions(Permissions::from_mode(0o600)).map_err(BuildError::io("close", &disk))?;
        Ok(Packed { disk, esp: self.area.host(&format!("{}/esp", self.folder)) })
    }

    /// Removes everything of this build from the area.
    ///
    /// # Errors
    /// When something stays.
    pub(super) async fn remove(self) -> Result<(), BuildError> {
        self.area.remove(self.host, &self.folder).await?;
        let lock = self.area.host(&format!("{}.lock", self.folder));
        fs::remove_file(&lock).map_err(BuildError::io("remove", &lock))
    }

    async fn in_tree(&self, task: &Task, script: &str, name: &str) -> Result<(), BuildError> {
        let status = format!("{}/status", self.folder);
        let status_file = self.area.host(&status);
        let _ = fs::remove_file(&status_file);
        let script = self.login.before(script);
        if !self.login.is_empty() {
            self.stage("apt.conf", &self.login.settings())?;
        }
        let mut entry = self.entry("/bin/sh", vec!["-euc".to_owned(), script], true);
        entry.status = Some(PathBuf::from(status));
        let door = self.door()?;
        let mut environment = task.environment.clone();
        entry.network = match &self.reached {
            Reached::All => enter::Network::Host,
            Reached::Nothing => enter::Network::Nothing,
            Reached::Mirrors(_) => {
                mirrors::tell(&mut environment, enter::PORT);
                enter::Network::Served(PathBuf::from(format!("{}/{DOOR}", self.folder)))
            }
        };
        let command = self.login.given(self.area.command(self.host, &entry), "/run/sindri/apt.conf");
        let mut command = with_environment(command, &environment);
        for (name, value) in task.instructions("/run/sindri", name) {
            command = command.env(format!("{ENV_PREFIX}{name}"), value);
        }
        let limits = Limits { cancel: self.cancel.clone(), timeout: task.timeout };
        let finished = tokio::select! {
            finished = self.host.runner.run(&command, Some(&self.log), &limits) => finished,
            never = self.serve(door) => match never {},
        };
        let finished = match finished {
            Ok(finished) => finished,
            Err(ProcessError::Timeout { limit, .. }) => {
                let (name, tail) = (task.name.clone(), self.log.tail(TAIL));
                return Err(StepFailure::Timeout { name, limit, tail }.into());
            }
            Err(error) => return Err(BuildError::tool(format!("run step {}", task.name))(error)),
        };
        // Not every way into the namespaces hands the exit code through; without the file none was reached.
        let Some(code) = exit_code(&status_file) else {
            let refused = super::said::refused(&finished.output);
            return Err(refused.unwrap_or_else(|| self.failed(&task.name, finished.code, &finished.output)));
        };
        if code == 0 { Ok(()) } else { Err(self.failed(&task.name, code, &finished.output)) }
    }

    /// Why a step failed: where the disk with the tree is full, that is no fault of the step.
    fn failed(&self, name: &str, code: i32, output: &str) -> BuildError {
        let folder = self.area.host(&self.folder);
        if full_disk(output, &[&folder]).is_some() {
            return BuildError::NoSpace { operation: format!("run step {name} in {}", folder.display()) };
        }
        step_error(name, code, output)
    }

    /// Where a step's listener will come from, if it reaches mirrors.
    fn door(&self) -> Result<Option<(Door, Arc<Mirrors>)>, BuildError> {
        let Reached::Mirrors(mirrors) = &self.reached else { return Ok(None) };
        let folder = self.area.host(&self.folder);
        let door = Door::open(&folder, DOOR).map_err(BuildError::io("make a socket in", &folder))?;
        Ok(Some((door, Arc::clone(mirrors))))
    }

    /// Serves a step's listener until the step is over.
    async fn serve(&self, door: Option<(Door, Arc<Mirrors>)>) -> std::convert::Infallible {
        if let Some((door, mirrors)) = door {
            match door.listener().await {
                Ok(listener) => mirrors.serve_at(listener).await,
                Err(error) => self.log.line(&format!("The step reaches no mirror: {error}")),
            }
        }
        std::future::pending().await
    }

    fn entry(&self, program: &str, args: Vec<String>, chroot: bool) -> Entry {
        let part = |name: &str| PathBuf::from(format!("{}/{name}", self.folder));
        let mut entry = Entry::new(program).args(args);
        entry.chroot = chroot;
        entry.tree = Some(enter::Tree {
            layer: PathBuf::from(&self.layer),
            upper: part("upper"),
            scratch: part("scratch"),
            root: part("root"),
            stage: chroot.then(|| part("stage")),
        });
        entry
    }

    /// Puts a program where the tree sees it as `/run/sindri/<name>`.
    fn stage(&self, name: &str, text: &str) -> Result<(), BuildError> {
        let path = self.area.host(&format!("{}/stage/{name}", self.folder));
        // Whoever runs the step reads it; the folder above the area keeps others out.
        area::write_program(&path, text)
    }

    async fn stage_upload(&self, source: &Path) -> Result<String, BuildError> {
        let archive = self.area.host(&format!("{}/stage/upload.tar", self.folder));
        let name = provision::pack(&self.host.runner, source, &archive, &self.log, self.cancel).await?;
        // The folder above the area keeps others out.
        fs::set_permissions(&archive, Permissions::from_mode(0o644))
            .map_err(BuildError::io("open up", &archive))?;
        Ok(name)
    }

    /// The least disk size that holds the tree, in GiB, with room for the file system's own tables.
    async fn needed_gb(&self) -> Result<u64, BuildError> {
        let root = format!("{}/{}/root", enter::AREA, self.folder);
        let entry = self.entry("du", ["-s", "--block-size=1M", "--", &root].map(str::to_owned).into(), false);
        let command = self.area.command(self.host, &entry);
        let limits = Limits::cancelled_by(self.cancel);
        let output = self.host.runner.check(&command, None, &limits).await;
        let output = output.map_err(BuildError::tool("measure the tree"))?;
        let mib = output.lines().find_map(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(super::disk::smallest_gb(mib.unwrap_or_default()))
    }
}

/// How `mke2fs` is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mke2fs {
    /// Options; the disk's path and the size follow them.
    pub(super) args: Vec<String>,
    /// The file system's size, `1024k`.
    pub(super) size: String,
    /// Variables.
    pub(super) env: Vec<(&'static str, String)>,
}

/// Removes what a killed provider left of a build. Nothing there is success.
///
/// # Errors
/// When something stays.
pub(super) async fn remove_left(host: &Host, area: &Area, id: Uuid) -> Result<(), BuildError> {
    area.remove(host, &folder(id)).await?;
    let _ = fs::remove_file(area.host(&lock_name(id)));
    Ok(())
}

/// Removes the trees of builds whose provider is gone.
pub(super) async fn remove_abandoned(host: &Host, area: &Area, log: &BuildLog) {
    let names = fs::read_dir(area.host("work")).into_iter().flatten().flatten();
    let ids =
        names.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".lock")?.parse::<Uuid>().ok());
    for id in ids {
        // Its provider holds the lock as long as it lives.
        let Ok(Some(_lock)) = area.try_lock(&lock_name(id), How::Exclusive) else { continue };
        log.line(&format!("Removing the remains of build {id}, whose provider ended"));
        if let Err(error) = remove_left(host, area, id).await {
            log.line(&format!("They stay: {error}"));
        }
    }
}

/// The right to a build's tree. Only one who looks for abandoned trees may hold the lock of a fresh id, and not for long.
fn claim(area: &Area, id: Uuid) -> Result<File, BuildError> {
    for _ in 0..100 {
        if let Some(lock) = area.try_lock(&lock_name(id), How::Exclusive)? {
            return Ok(lock);
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Err(BuildError::Invalid(format!("the build {id} is already running")))
}

fn folder(id: Uuid) -> String {
    format!("work/{id}")
}

fn lock_name(id: Uuid) -> String {
    format!("work/{id}.lock")
}

fn with_environment(mut command: Command, environment: &Environment) -> Command {
    for (name, value) in &environment.plain {
        command = command.env(format!("{ENV_PREFIX}{name}"), value);
    }
    for (name, value) in &environment.secret {
        command = command.env(format!("{ENV_PREFIX}{name}"), value.expose());
    }
    command
}

/// As process 1 wrote it; a step can get at the file through it.
fn exit_code(status: &Path) -> Option<i32> {
    let mut text = String::new();
    File::open(status).ok()?.take(16).read_to_string(&mut text).ok()?;
    text.parse().ok()
}

fn step_error(name: &str, code: i32, output: &str) -> BuildError {
    let tail = tail::last(output.lines().filter(|line| !noise(line)), TAIL);
    StepFailure::Code { name: name.to_owned(), code, tail }.into()
}

/// What the way into the namespaces says after a program that failed.
fn noise(line: &str) -> bool {
    line.starts_with("E: system failed: ") || line == "E: unshared command failed"
}

/// Whether mke2fs stopped amid the tree's files. What it says does not tell why.
fn may_be_full(output: &str) -> bool {
    let full = ["Could not allocate", "while populating file system"];
    !says_no_space(output) && full.iter().any(|text| output.contains(text))
}

/// That a tree which needs so much does not fit a disk of `size` bytes, if so.
fn too_small(size: u64, needed_gb: u64) -> Option<BuildError> {
    let disk_gb = u32::try_from(size >> 30).unwrap_or(u32::MAX);
    (needed_gb > u64::from(disk_gb)).then_some(BuildError::TooSmall { disk_gb, needed_gb })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_that_would_fit_failed_for_another_reason() {
        for (size_gb, needed_gb, expected) in [
            (1, 2, Some("a disk of 1 GB is too small")),
            (10, 2, None),
            (2, 2, None),
            // Nothing was measured.
            (2, 0, None),
        ] {
            let told = too_small(size_gb << 30, needed_gb).map(|error| error.to_string());
            let fits = told.as_ref().map(|told| told.contains(expected.unwrap_or("\0")));
            assert_eq!(fits, expected.map(|_| true), "{size_gb} {needed_gb}: {told:?}");
        }
        let populating = "mke2fs: Operation not permitted while populating file system";
        for (output, expected) in [
            (populating, true),
            ("mke2fs: Could not allocate block in ext2 filesystem while populating file system", true),
            ("mke2fs: No space left on device while populating file system", false),
            ("mke2fs: invalid option", false),
        ] {
            assert_eq!(may_be_full(output), expected, "{output}");
        }
    }
}
