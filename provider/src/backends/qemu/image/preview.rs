//! What a build would do, without one: for Packer its template, for the native engine the scripts.

use super::guest_build::{AWAIT, LEAVE, SWITCH_OFF};
use super::prepare::is_seeded;
use super::{Host, packer_engine};
use crate::backends::qemu::{Engine, QemuImageSpec};
use crate::domain::template::Script;
use crate::domain::{BackendError, ImageSpec, Origin, Template, TemplateRequest};
use crate::provision::{self, Task, Work};

/// What is shown of an image.
///
/// # Errors
/// When the native engine is asked for what only Packer has, or the programs are not there.
pub(in crate::backends::qemu) async fn template(
    host: &Host,
    qemu: &QemuImageSpec,
    request: &TemplateRequest,
) -> Result<Template, BackendError> {
    match qemu.engine {
        Engine::Packer => {
            let mut template = packer_engine::preview(host, qemu, request).await?;
            // They are run by us in the finished image, whoever made it.
            template.scripts.extend(request.spec.checks.iter().map(Script::of_check));
            Ok(template)
        }
        Engine::Native => Ok(Template { scripts: scripts(&request.spec, qemu), ..Template::default() }),
    }
}

/// All that is done in the tree or in the guest, in order.
fn scripts(spec: &ImageSpec, qemu: &QemuImageSpec) -> Vec<Script> {
    let tasks = provision::tasks(spec);
    let cleanups = provision::cleanup(spec.security);
    let mut all = Vec::new();
    let wait = || (qemu.boot && is_seeded(qemu)).then(|| own("wait for cloud-init", AWAIT));
    all.extend(wait());
    for (index, task) in tasks.iter().enumerate() {
        all.push(of_task(Origin::Step(index), task));
        all.extend((task.work == Work::Reboot).then(wait).flatten());
    }
    all.extend((qemu.boot && !cleanups.is_empty()).then(|| own("quiet the guest", provision::QUIET)));
    all.extend(cleanups.iter().map(|task| of_task(Origin::Cleanup, task)));
    if qemu.boot {
        all.extend([own("leave the guest", LEAVE), own("switch the guest off", SWITCH_OFF)]);
    }
    all.extend(spec.checks.iter().map(Script::of_check));
    all
}

fn own(name: &str, text: &str) -> Script {
    script(Origin::Sindri, name, "script", Some(text))
}

fn of_task(of: Origin, task: &Task) -> Script {
    let (kind, text) = match &task.work {
        Work::Script(text) => ("script", Some(text.as_str())),
        Work::Upload { .. } => ("upload", None),
        Work::Reboot => ("reboot", None),
    };
    script(of, &task.name, kind, text)
}

fn script(of: Origin, name: &str, kind: &'static str, text: Option<&str>) -> Script {
    Script { name: name.to_owned(), of, kind, file: None, content: text.map(str::to_owned) }
}
