//! What is done inside an image, as scripts: the same for every backend.
//!
//! Turns an [`ImageSpec`] into tasks and clean-up scripts, and those into what Packer's provisioners do (`parts`). Knows
//! no backend.

mod check;
mod clean;
mod failure;
pub mod parts;
mod upload;

pub use check::{FailedCheck, STARTED, judge};
pub use clean::{cleanup, look, looked_for};
pub use failure::StepFailure;
pub use upload::{UploadError, pack};

use std::path::PathBuf;
use std::time::Duration;

use crate::domain::{Action, Environment, ImageSpec, Step};

/// One step, ready to be run by a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Number and name for messages: `2 (setup.sh)`.
    pub name: String,
    /// What is done.
    pub work: Work,
    /// The environment of all steps and of this one together.
    pub environment: Environment,
    /// Who runs it; root when none is named.
    pub user: Option<String>,
    /// The longest time that it may take.
    pub timeout: Option<Duration>,
}

/// What a task does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// A program's text with its `#!` line.
    Script(String),
    /// A file or a folder's content copied into the image.
    Upload {
        /// On the host.
        source: PathBuf,
        /// In the image: an absolute path.
        destination: String,
        /// Permission bits; the source's when none are given.
        mode: Option<u32>,
        /// `user` or `user:group`; root when none is given.
        owner: Option<String>,
    },
    /// Restarts the guest.
    Reboot,
}

/// Where scripts and archives lie in a booted guest. Not below `/run`, from which nothing can be executed.
pub const STAGE: &str = "/var/tmp/sindri-build";

/// Run as root in an image, runs the task's script, which is `script` in the stage.
pub const RUN_SCRIPT: &str = include_str!("../../../templates/scripts/run-script.sh");

/// Run as root in an image, puts what `upload.tar` in the stage holds in its place.
pub const UPLOAD: &str = include_str!("../../../templates/scripts/upload.sh");

/// Run as root in a booted guest before it is cleaned, so that it stays clean.
pub const QUIET: &str = include_str!("../../../templates/scripts/quiet-guest.sh");

impl Task {
    /// All that [`RUN_SCRIPT`] or [`UPLOAD`] sees in a guest: the task's own environment and the instructions.
    pub fn surroundings(&self, stage: &str, name: &str) -> Environment {
        let mut environment = self.environment.clone();
        let told = self.instructions(stage, name).into_iter();
        environment.plain.extend(told.map(|(name, value)| (name.to_owned(), value)));
        environment.plain.entry("DEBIAN_FRONTEND".to_owned()).or_insert_with(|| "noninteractive".to_owned());
        environment
    }

    /// What [`RUN_SCRIPT`] and [`UPLOAD`] are told, beside the task's own environment. `stage` is the folder, as the
    /// image sees it, in which the script or the archive lies; `name` is what an archive holds.
    pub fn instructions(&self, stage: &str, name: &str) -> Vec<(&'static str, String)> {
        let mut all = vec![("SINDRI_STAGE", stage.to_owned())];
        match &self.work {
            Work::Upload { destination, mode, owner, .. } => all.extend([
                ("SINDRI_NAME", name.to_owned()),
                ("SINDRI_TO", destination.clone()),
                ("SINDRI_MODE", mode.map(|mode| format!("{mode:o}")).unwrap_or_default()),
                ("SINDRI_OWNER", owner.clone().unwrap_or_else(|| "root:root".to_owned())),
            ]),
            Work::Script(_) | Work::Reboot => {
                all.push(("SINDRI_USER", self.user.clone().unwrap_or_default()));
            }
        }
        all
    }
}

/// The longest part of an inline command that a name shows.
const SHOWN: usize = 40;

/// The tasks of an image, in order.
pub fn tasks(spec: &ImageSpec) -> Vec<Task> {
    spec.steps.iter().enumerate().map(|(index, step)| task(index, step, &spec.environment)).collect()
}

fn task(index: usize, step: &Step, common: &Environment) -> Task {
    let mut environment = common.clone();
    for name in step.environment.plain.keys() {
        environment.secret.remove(name);
    }
    for name in step.environment.secret.keys() {
        environment.plain.remove(name);
    }
    environment.plain.extend(step.environment.plain.clone());
    environment.secret.extend(step.environment.secret.clone());
    let (label, work) = work(&step.action);
    Task {
        name: format!("{} ({label})", index + 1),
        work,
        environment,
        user: step.user.clone(),
        timeout: step.timeout,
    }
}

fn work(action: &Action) -> (String, Work) {
    match action {
        Action::Inline(lines) => {
            let first = lines.iter().flat_map(|line| line.lines()).find(|line| !line.trim().is_empty());
            (
                shorten(first.unwrap_or("inline")),
                Work::Script(format!("#!/bin/sh -eu\n{}\n", lines.join("\n"))),
            )
        }
        Action::Script { name, content } => {
            let text =
                if content.starts_with("#!") { content.clone() } else { format!("#!/bin/sh\n{content}") };
            (shorten(name), Work::Script(text))
        }
        Action::Upload { source, destination, mode, owner } => (
            shorten(&format!("upload {destination}")),
            Work::Upload {
                source: source.clone(),
                destination: destination.clone(),
                mode: *mode,
                owner: owner.clone(),
            },
        ),
        Action::Reboot => ("reboot".to_owned(), Work::Reboot),
    }
}

fn shorten(text: &str) -> String {
    let text = text.trim().replace(char::is_control, "?");
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::{OnError, Security};
    use crate::process::Secret;

    fn step(action: Action) -> Step {
        Step { action, environment: Environment::default(), user: None, timeout: None }
    }

    fn spec(steps: Vec<Step>) -> ImageSpec {
        ImageSpec {
            name_prefix: "t".into(),
            environment: Environment::default(),
            steps,
            security: Security { clean_sensitive_data: true, remove_ssh_host_keys: true },
            checks: Vec::new(),
            on_error: OnError::Cleanup,
        }
    }

    #[test]
    fn names_and_texts() {
        let cases = [
            (Action::Inline(vec!["a".into(), "b".into()]), "1 (a)", "#!/bin/sh -eu\na\nb\n"),
            (Action::Inline(vec!["\n  x\u{1b}[0m".into()]), "1 (x?[0m)", "#!/bin/sh -eu\n\n  x\u{1b}[0m\n"),
            (
                Action::Inline(vec!["é".repeat(60)]),
                "1 (éééééééééééééééééééééééééééééééééééééééé…)",
                &format!("#!/bin/sh -eu\n{}\n", "é".repeat(60)),
            ),
            (Action::Script { name: "s.sh".into(), content: "ls\n".into() }, "1 (s.sh)", "#!/bin/sh\nls\n"),
            (
                Action::Script { name: "s.py".into(), content: "#!/usr/bin/python3\n".into() },
                "1 (s.py)",
                "#!/usr/bin/python3\n",
            ),
        ];
        for (action, name, text) in cases {
            let tasks = tasks(&spec(vec![step(action)]));
            assert_eq!(tasks[0].name, name);
            assert_eq!(tasks[0].work, Work::Script(text.to_owned()));
        }
    }

    #[test]
    fn a_steps_own_variable_wins_whether_secret_or_not() {
        let mut image = spec(vec![step(Action::Reboot), step(Action::Reboot)]);
        let plain = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let secret = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), Secret::new(value))]);
        image.environment = Environment { plain: plain("A", "1"), secret: secret("B", "2") };
        image.steps[1].environment = Environment { plain: plain("B", "3"), secret: secret("A", "4") };
        let tasks = tasks(&image);
        assert_eq!(tasks[0].environment, image.environment);
        assert_eq!(tasks[1].environment, image.steps[1].environment);
    }
}
