//! What a build would hand to Packer, without one. What only a build has is told by words or zeros in its place.

use std::path::Path;

use uuid::Uuid;

use super::template::{self, BASE, DISK, OUTPUT, Values};
use super::{BOOT, NEEDED, OFF, drafts, leave_command, required};
use crate::backends::qemu::guest::{self, Forward};
use crate::backends::qemu::host::Emulator;
use crate::backends::qemu::image::Host;
use crate::backends::qemu::image::prepare::{Machine, SEED};
use crate::backends::qemu::{DiskFormat, QemuImageSpec};
use crate::domain::{BackendError, Template, TemplateRequest};
use crate::packer::Variables;
use crate::provision::parts::{self, Handed, KEY, Part, Preview, PreviewError, Tools};

/// Stands for the public key, in the form of one.
const PUBLIC_KEY: &str = "ssh-ed25519 (the-key-of-the-build)";
/// Stands for a port that a build chooses.
const PORT: u16 = 0;

/// What is shown of an image.
pub(in crate::backends::qemu) async fn template(
    host: &Host,
    qemu: &QemuImageSpec,
    request: &TemplateRequest,
) -> Result<Template, BackendError> {
    let tools = Tools { packer: &host.packer, runner: &host.runner, lock_dir: &host.cache_dir };
    let preview = Preview { request, tools, needed: NEEDED };
    let chosen = preview.packer().await.map_err(PreviewError::into_backend)?;
    let failed = |error: parts::PartError| PreviewError::from(error).into_backend();
    let drafts = drafts(&request.spec, qemu).map_err(failed)?;
    let listed = parts::parts(&drafts);
    let forms = template::forms(chosen.version, host.packer.own_plugins(), &listed);
    let forms = forms.map_err(|error| PreviewError::from(error).into_backend())?;
    let variables = variables(host, qemu, request, &listed)?;
    let handed = Handed { forms, variables, drafts, required: required(), files: &[BASE] };
    preview.show(&chosen, handed).await.map_err(PreviewError::into_backend)
}

fn variables(
    host: &Host,
    qemu: &QemuImageSpec,
    request: &TemplateRequest,
    listed: &[Part],
) -> Result<Variables, BackendError> {
    let operation = "rendering the template";
    let disk = Path::new(OUTPUT).join(DISK);
    let machine = Machine {
        id: Uuid::nil(),
        disk: &disk,
        format: DiskFormat::Raw,
        seed: Path::new(SEED),
        public_key: PUBLIC_KEY,
    };
    let mut spec = machine.spec(qemu, request.spec.on_error);
    spec.forwards = vec![Forward { host: Some(PORT), ..Forward::SSH }];
    let emulator = Emulator::find(qemu.arch, host.accelerator);
    let emulator = emulator.map_err(|error| BackendError::failed(operation, error))?;
    let command = guest::preview(&spec, &emulator, Path::new(""));
    let command = command.map_err(|error| BackendError::failed(operation, error))?;
    let leave = leave_command(PUBLIC_KEY).map_err(|error| BackendError::failed(operation, error))?;
    let values = Values {
        qemu: &command,
        accelerator: emulator.accelerator.name(),
        size: u64::from(qemu.disk_size_gb) << 30,
        port: PORT,
        key: Path::new(KEY),
        boot_seconds: BOOT.as_secs(),
        leave: &leave,
        leave_seconds: OFF.as_secs(),
    };
    template::variables(&values, listed).ok_or_else(|| {
        let not_text = std::io::Error::from(std::io::ErrorKind::InvalidInput);
        BackendError::failed("telling QEMU's arguments, which are not UTF-8,", not_text)
    })
}
