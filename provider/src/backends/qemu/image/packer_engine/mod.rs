//! `engine = "packer"`: the steps of an image in a guest that Packer's qemu builder runs.
//!
//! The same machine as our own builder's, to the last argument of QEMU, the same way in, the same scripts: what comes out
//! is the same image, so the engine is not part of the cache key. Steps, template and values stand in files of the
//! build's folder. How Packer is run, and what it says, is the business of `packer`.

mod parts;
mod template;

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::booted::{self, BOOT, FirstBoot, Start, guest_error};
use super::guest_build::{LEAVE, OFF, QUIET, leave_environment};
use super::{Build, BuildError};
use crate::backends::qemu::guest::{self, GuestError, console};
use crate::backends::qemu::{DiskFormat, guest::GuestSpec};
use crate::packer::{Folder, Job, Packer, PackerError, Plugins, Report, Said, Version};
use crate::process::{Limits, private};
use crate::ssh;

use self::parts::{Part, Writer, shell_line};
use self::template::{BASE, DISK, OUTPUT, PLUGIN, Values};

/// The first Packer whose qemu builder has all options that the template uses.
pub const NEEDED: Version = Version::new(1, 6, 6);
/// What Packer has to end the guest and remove its disk when it is cancelled.
const GRACE: Duration = Duration::from_secs(30);
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
    };
    let prepared = booted::prepare(build, &start)?;
    let (spec, port) = with_port(prepared.spec, dir)?;
    let qemu =
        guest::command_line(&spec, &prepared.emulator, dir).map_err(guest_error("prepare the guest"))?;
    private::create_dir(&dir.join(PARTS)).map_err(BuildError::io("create", &dir.join(PARTS)))?;
    let parts = Writer::new(build, dir, PARTS, BOOT).write(booted::is_seeded(build), QUIET).await?;
    let leave = shell_line("leave the guest", LEAVE, &leave_environment(&prepared.public_key))?;
    let values = Values {
        qemu: &qemu,
        accelerator: prepared.emulator.accelerator.name(),
        size,
        port,
        key: Path::new(prepared.key_file.file_name().unwrap_or_default()),
        boot_seconds: BOOT.as_secs(),
        // Whatever the login's shell is, these are words for a POSIX one.
        leave: &format!("exec /bin/sh -c {}", ssh::quote(leave.trim_end())),
        leave_seconds: OFF.as_secs(),
    };
    let report = run(build, &packer, dir, &values, &parts).await;
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

/// Validates and builds.
async fn run(
    build: &Build<'_>,
    packer: &Packer,
    dir: &Path,
    values: &Values<'_>,
    parts: &[Part],
) -> Result<Report, BuildError> {
    let not_text = || BuildError::Invalid(format!("the folder {} has no name in UTF-8", dir.display()));
    let variables = template::variables(values, parts).ok_or_else(not_text)?;
    let folder = Folder::create(&dir.join(FOLDER)).map_err(BuildError::packer)?;
    let Build { host, log, cancel, .. } = build;
    let job = Job { folder: &folder, cwd: dir, runner: &host.runner, log, cancel, grace: GRACE, then: None };
    let own_plugins = host.packer.plugin_dir.is_some() || host.packer.skip_init;
    let mut tries = Plugins::to_try(packer.version).iter().peekable();
    while let Some(plugins) = tries.next() {
        let hcl = template::hcl(*plugins, own_plugins, parts).map_err(BuildError::packer)?;
        folder.write(&hcl, &variables).map_err(BuildError::packer)?;
        if *plugins == Plugins::Required {
            let required = format!("qemu {PLUGIN}");
            packer.init(&job, &required, &host.cache_dir).await.map_err(BuildError::packer)?;
        }
        match packer.validate(&job).await {
            Ok(()) => break,
            Err(PackerError::Invalid { output, .. }) if tries.peek().is_some() && is_unknown(&output) => {}
            Err(error) => return Err(BuildError::packer(error)),
        }
    }
    let mut at: Option<&Part> = None;
    let built = packer.build(&job, |said, text| {
        if let Some(part) = parts.iter().find(|part| said == Said::Say && begins(part, text)) {
            if at.is_none_or(|at| at.name != part.name) {
                log.step(&format!("Provisioning step {}", part.name));
            }
            at = Some(part);
        }
    });
    let built = built.await;
    built.map_err(|error| failure(error, at, dir))
}

/// Whether Packer says that it has no qemu builder.
fn is_unknown(output: &str) -> bool {
    output.contains("Unknown source type") || output.contains("The source qemu is unknown")
}

/// Whether Packer says that it begins with this part.
fn begins(part: &Part, text: &str) -> bool {
    ["Provisioning with shell script: ", "Uploading "].iter().any(|words| {
        text.split_once(words).is_some_and(|(_, rest)| rest.split_whitespace().next() == Some(&part.source))
    })
}

/// A failure of a step as our own builder tells it.
fn failure(error: PackerError, at: Option<&Part>, dir: &Path) -> BuildError {
    let PackerError::Build { reason, tail, late } = error else { return BuildError::packer(error) };
    match (at, exit_code(&reason)) {
        (Some(part), Some(code)) => BuildError::Step { name: part.name.clone(), code, tail },
        (Some(Part { name, timeout: Some(limit), .. }), None) if late => {
            BuildError::StepTimeout { name: name.clone(), limit: *limit, tail }
        }
        (None, _) => {
            let tail = format!("{tail}\n{}", console::tail(dir)).trim().to_owned();
            BuildError::packer(PackerError::Build { reason, tail, late })
        }
        _ => BuildError::packer(PackerError::Build { reason, tail, late }),
    }
}

/// `Script exited with non-zero exit status: 3. Allowed exit codes are: [0]`
fn exit_code(reason: &str) -> Option<i32> {
    let (_, rest) = reason.split_once("non-zero exit status: ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_packer_says_of_a_failing_script() {
        for (reason, code) in [
            ("Script exited with non-zero exit status: 3.Allowed exit codes are: [0]", Some(3)),
            ("Script exited with non-zero exit status: 42. Allowed exit codes are: [0]", Some(42)),
            ("Timeout waiting for SSH.", None),
            ("non-zero exit status: x", None),
        ] {
            assert_eq!(exit_code(reason), code, "{reason}");
        }
    }
}
