//! `engine = "packer"`: the steps of an image in a guest that Packer's qemu builder runs.
//!
//! The same machine as our own builder's, to the last argument of QEMU, the same way in, the same scripts: what comes out
//! is the same image, so the engine is not part of the cache key. Steps, template and values stand in files of the
//! build's folder. How Packer is run, and what it says, is the business of `packer`.

mod preview;
mod template;
mod words;

pub(in crate::backends::qemu) use preview::template as preview;

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::booted::{BOOT, guest_error};
use super::guest_build::{AWAIT, LEAVE, OFF, PATIENCE, SWITCH_OFF, leave_environment};
use super::prepare::{FirstBoot, Prepared, Start, is_seeded, prepare};
use super::{Build, BuildError};
use crate::backends::qemu::guest::GuestSpec;
use crate::backends::qemu::guest::{self, GuestError, console};
use crate::backends::qemu::{DiskFormat, QemuImageSpec};
use crate::domain::ImageSpec;
use crate::packer::{Folder, Job, Packer, PackerError, Recipe, Report, Variables, Version};
use crate::process::Limits;
use crate::provision::parts::{self, Draft, Drafts, Failure, Part, PartError, Site, shell_line};
use crate::ssh;

use self::template::{BASE, DISK, OUTPUT, PLUGIN, Values};

/// The first Packer whose qemu builder has all options that the template uses.
pub const NEEDED: Version = Version::new(1, 6, 6);
/// What Packer has to end the guest and remove its disk when it is cancelled.
const GRACE: Duration = Duration::from_secs(30);
/// How often another port is tried.
const TRIES: usize = 5;
/// The folder of what Packer is given, and of the parts' files, in the guest's folder.
const FOLDER: &str = "packer";
const PARTS: &str = "parts";

/// Runs the image's steps in a guest of Packer's with the raw disk `disk`, whose folder `dir` is the guest's too.
///
/// # Errors
/// What stops a step, the guest or Packer.
pub(super) async fn provision(build: &Build<'_>, dir: &Path, disk: &Path) -> Result<(), BuildError> {
    let packer = find(build).await?;
    build.log.step(&format!("Handing over to Packer {}", packer.version));
    let size = fs::metadata(disk).map_err(BuildError::io("read", disk))?.len();
    let base = dir.join(BASE);
    fs::rename(disk, &base).map_err(BuildError::io("move", disk))?;
    let start = Start {
        dir: dir.to_owned(),
        disk: &Path::new(OUTPUT).join(DISK),
        format: DiskFormat::Raw,
        first_boot: FirstBoot::Brief,
        mirrors: None,
    };
    let prepared = prepare(build, &start)?;
    let Build { host, log, cancel, .. } = build;
    let site = Site { cwd: dir, runner: &host.runner, log, cancel };
    let parts = parts::write(&site, drafts(build.spec, build.qemu)?).await?;
    let machine = Machine { dir, size, prepared: &prepared, leave: leave_command(&prepared.public_key)? };
    let report = run(build, &packer, &machine, &parts).await;
    // Packer ends its guest; a Packer that was killed, with its supervisor perhaps, does not.
    let killed = guest::kill(dir, build.id).await.map_err(guest_error("stop the guest"));
    let report = report?;
    killed?;
    let made = report.single_artifact().and_then(|artifact| artifact.file(dir, DISK));
    let made = made.map_err(BuildError::packer)?;
    fs::rename(&made, disk).map_err(BuildError::io("move", &made))?;
    fs::remove_file(&base).map_err(BuildError::io("remove", &base))?;
    let parts = dir.join(PARTS);
    fs::remove_dir_all(&parts).map_err(BuildError::io("remove", &parts))
}

/// The user's Packer, if it can do this.
async fn find(build: &Build<'_>) -> Result<Packer, BuildError> {
    let host = build.host;
    let packer = host.packer.locate(&host.runner, &Limits::cancelled_by(build.cancel)).await;
    let packer = packer.map_err(|error| BuildError::packer(error.into()))?;
    if packer.version < NEEDED {
        let Packer { program, version, .. } = packer;
        return Err(BuildError::OldPacker { needed: NEEDED, found: version, program });
    }
    Ok(packer)
}

/// The guest with a port of this computer that leads to its SSH server.
fn with_port(mut spec: GuestSpec, dir: &Path) -> Result<(GuestSpec, u16), BuildError> {
    let chosen = guest::choose(&spec.forwards).map_err(GuestError::file("find a free port for", dir));
    spec.forwards = chosen.map_err(guest_error("prepare the guest"))?;
    let port = spec.forwards.first().and_then(|forward| forward.host).unwrap_or_default();
    Ok((spec, port))
}

/// Builds. Another port is tried where somebody took the one that we had chosen.
async fn run(
    build: &Build<'_>,
    packer: &Packer,
    machine: &Machine<'_>,
    parts: &[Part],
) -> Result<Report, BuildError> {
    let Build { host, log, cancel, .. } = build;
    let dir = machine.dir;
    let folder = Folder::create(&dir.join(FOLDER)).map_err(BuildError::packer)?;
    let own_plugins = host.packer.own_plugins();
    let forms = template::forms(packer.version, own_plugins, parts).map_err(BuildError::packer)?;
    let (required, lock_dir) = (required(), &host.cache_dir);
    // Ends with the build, and when this computer's disk is full.
    let stop = cancel.child_token();
    let job = Job {
        folder: &folder,
        cwd: dir,
        runner: &host.runner,
        log,
        cancel: &stop,
        grace: GRACE,
        keep: false,
        keep_output: false,
        then: None,
    };
    let mut tries = 1;
    loop {
        let variables = machine.variables(&folder, parts)?;
        let recipe = Recipe { forms: &forms, variables: &variables, required: &required, lock_dir };
        let ran = parts::run(packer, &job, &recipe, parts);
        tokio::pin!(ran);
        let ran = tokio::select! {
            ran = &mut ran => ran,
            () = guest::disk_is_full(dir) => {
                stop.cancel();
                let _ = ran.await;
                return Err(BuildError::NoSpace { operation: "run the steps".to_owned() });
            }
        };
        match ran {
            Err(Failure::Start(PackerError::Build { reason, tail, late })) => {
                let qemu = words::of(&folder);
                if tries < TRIES && guest::is_refused(&qemu) {
                    tries += 1;
                    continue;
                }
                let tail = [tail, qemu, log.redact(&console::tail(dir))];
                let tail = tail.iter().map(|it| it.trim()).filter(|it| !it.is_empty()).collect::<Vec<_>>();
                let tail = tail.join("\n");
                return Err(BuildError::packer(PackerError::Build { reason, tail, late }));
            }
            other => return Ok(other?.1),
        }
    }
}

/// The machine that Packer runs.
struct Machine<'a> {
    dir: &'a Path,
    /// The disk's size in bytes.
    size: u64,
    prepared: &'a Prepared,
    leave: String,
}

impl Machine<'_> {
    /// What Packer is told, with a port that is free now.
    fn variables(&self, folder: &Folder, parts: &[Part]) -> Result<Variables, BuildError> {
        let Self { dir, prepared, .. } = self;
        let (spec, port) = with_port(prepared.spec.clone(), dir)?;
        let qemu = guest::command_line(&spec, &prepared.emulator, dir);
        let mut qemu = qemu.map_err(guest_error("prepare the guest"))?;
        if let Some(program) = words::kept(folder, &qemu.program)? {
            qemu.program = program;
        }
        let values = Values {
            qemu: &qemu,
            accelerator: prepared.emulator.accelerator.name(),
            size: self.size,
            port,
            key: Path::new(prepared.key_file.file_name().unwrap_or_default()),
            boot_seconds: BOOT.as_secs(),
            leave: &self.leave,
            leave_seconds: OFF.as_secs(),
        };
        let not_text = || BuildError::Invalid(format!("the folder {} has no name in UTF-8", dir.display()));
        template::variables(&values, parts).ok_or_else(not_text)
    }
}

/// The plugin and its version, where one is required.
fn required() -> String {
    format!("qemu {PLUGIN}")
}

/// What switches the guest off, and takes away the key by which we got in. Whatever the login's shell is, these are words
/// for a POSIX one.
fn leave_command(public_key: &str) -> Result<String, PartError> {
    let leave = format!("{LEAVE}{SWITCH_OFF}");
    let leave = shell_line("leave the guest", &leave, &leave_environment(public_key))?;
    Ok(format!("exec /bin/sh -c {}", ssh::quote(leave.trim_end())))
}

/// All that is done in the guest, in order, but for switching it off.
fn drafts(spec: &ImageSpec, qemu: &QemuImageSpec) -> Result<Vec<Draft>, PartError> {
    let mut drafts = Drafts::begin(PARTS, BOOT);
    if is_seeded(qemu) {
        drafts.script("wait for cloud-init", AWAIT, Some(PATIENCE));
    }
    drafts.steps(spec)?;
    drafts.cleanup(spec.security, PATIENCE)?;
    Ok(drafts.finish())
}
