//! What a build would be made of, to be looked at without one.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{CacheKey, Check, Environment, ImageSpec, Step};
use crate::process::Secret;

/// What stands for the value of an environment's variable: whether one is secret is not always told to us.
pub const HIDDEN: &str = "(not shown)";

/// What of an image a script is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Something that every build does.
    Sindri,
    /// The step at this position, from 0.
    Step(usize),
    /// One of the image's checks.
    Check,
    /// What is removed at the end.
    Cleanup,
}

/// What is to be shown.
#[derive(Debug, Clone)]
pub struct TemplateRequest {
    /// The image, as [`ImageSpec::without_values`] has it.
    pub spec: ImageSpec,
    /// Its key.
    pub key: CacheKey,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// For which Packer; the one that is found when not given.
    pub packer_version: Option<String>,
    /// Whether Packer is asked what it thinks of it.
    pub validate: bool,
    /// Ends it early.
    pub cancel: CancellationToken,
}

/// What a build would be made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Template {
    /// The Packer that it is for; none where none is used.
    pub packer_version: Option<String>,
    /// Packer's template.
    pub hcl: Option<String>,
    /// The values beside it.
    pub variables: Option<Value>,
    /// What is done in the image, in order.
    pub scripts: Vec<Script>,
}

/// One thing that is done in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// What messages call it: `2 (setup.sh)`.
    pub name: String,
    /// What it is there for.
    pub of: Origin,
    /// How it is done: `script`, `upload`, `reboot`, `return`.
    pub kind: &'static str,
    /// Its file, where it is handed over in one, relative to the folder of the build.
    pub file: Option<String>,
    /// Its text; an upload has none.
    pub content: Option<String>,
}

impl Script {
    /// A check that is run in the finished image.
    pub fn of_check(check: &Check) -> Self {
        let (name, content) = (check.name.clone(), Some(check.command.clone()));
        Self { name, of: Origin::Check, kind: "script", file: None, content }
    }
}

impl ImageSpec {
    /// The same image without a value of any environment, names alone.
    #[must_use]
    pub fn without_values(&self) -> Self {
        let steps = self.steps.iter();
        let step = |step: &Step| Step { environment: names_of(&step.environment), ..step.clone() };
        Self { environment: names_of(&self.environment), steps: steps.map(step).collect(), ..self.clone() }
    }
}

fn names_of(environment: &Environment) -> Environment {
    let Environment { plain, secret } = environment;
    Environment {
        plain: plain.keys().map(|name| (name.clone(), HIDDEN.to_owned())).collect(),
        secret: secret.keys().map(|name| (name.clone(), Secret::new(HIDDEN))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Action, OnError, Security};

    #[test]
    fn names_stay_and_values_go() {
        let environment = || Environment {
            plain: [("A".to_owned(), "canary".to_owned())].into(),
            secret: [("B".to_owned(), Secret::new("canary"))].into(),
        };
        let step = Step { action: Action::Reboot, environment: environment(), user: None, timeout: None };
        let spec = ImageSpec {
            name_prefix: "t".into(),
            environment: environment(),
            steps: vec![step],
            security: Security { clean_sensitive_data: true, remove_ssh_host_keys: true },
            checks: Vec::new(),
            on_error: OnError::Cleanup,
        };
        let shown = spec.without_values();
        for shown in [&shown.environment, &shown.steps[0].environment] {
            assert_eq!((shown.plain["A"].as_str(), shown.secret["B"].expose()), (HIDDEN, HIDDEN));
        }
    }
}
