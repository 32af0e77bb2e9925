//! One provisioning step: from the wire to the specification.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tfplugin::{Attr, Diagnostics, Model, Path};

use crate::domain::{Action, Environment, Step, names};
use crate::process::Secret;

/// One provisioning step. Exactly one of `inline`, `script`, `content`, `upload` and `reboot` is set.
#[derive(Debug, Clone, Default, Model)]
pub struct StepModel {
    /// Lines of a shell script, run by `/bin/sh -eu`.
    #[attr(optional)]
    pub inline: Attr<Vec<String>>,
    /// The path of a script on this computer. It is run by its `#!` line, or by `/bin/sh`.
    #[attr(optional, validate = names::text)]
    pub script: Attr<String>,
    /// A script itself. It is run by its `#!` line, or by `/bin/sh`.
    #[attr(optional, validate = names::text)]
    pub content: Attr<String>,
    /// A file or a folder to be copied into the image.
    #[attr(optional)]
    pub upload: Attr<UploadModel>,
    /// Restarts the guest and waits until it is back. Only where steps run in a booted guest.
    #[attr(optional)]
    pub reboot: Attr<bool>,
    /// Environment variables of this step; they win over those of all steps.
    #[attr(optional)]
    pub environment: Attr<BTreeMap<String, String>>,
    /// Like `environment`, for secrets: never stored in plan or state.
    #[attr(optional, write_only)]
    pub environment_wo: Attr<BTreeMap<String, String>>,
    /// Stands for `environment_wo` in the cache key: raise it to build again with new secrets.
    #[attr(optional)]
    pub environment_wo_version: Attr<i64>,
    /// Who runs the step; root when not set.
    #[attr(optional, validate = names::user)]
    pub user: Attr<String>,
    /// The longest time that the step may take, such as `"20m"`.
    #[attr(optional, validate = tfplugin::is_duration)]
    pub timeout: Attr<String>,
}

/// A file or a folder to be copied into the image.
#[derive(Debug, Clone, Default, Model)]
pub struct UploadModel {
    /// A path on this computer. Of a folder, the content is copied.
    #[attr(required, validate = names::text)]
    pub source: Attr<String>,
    /// An absolute path in the image.
    #[attr(required, validate = names::guest_path)]
    pub destination: Attr<String>,
    /// Permission bits in octal, such as `"0600"`, of the file or of the folder's files. When not set, `0644`, or `0755` for
    /// what may be run here: set it for what not everybody in the image may read. Folders have `0755`.
    #[attr(optional, validate = mode)]
    pub mode: Attr<String>,
    /// `"user"` or `"user:group"`; root when not set.
    #[attr(optional, validate = names::owner)]
    pub owner: Attr<String>,
}

impl StepModel {
    /// Which actions are set.
    fn actions(&self) -> Vec<&'static str> {
        [
            ("inline", self.inline.is_known()),
            ("script", self.script.is_known()),
            ("content", self.content.is_known()),
            ("upload", self.upload.is_known()),
            ("reboot", self.reboot.known() == Some(&true)),
        ]
        .into_iter()
        .filter_map(|(name, set)| set.then_some(name))
        .collect()
    }

    /// Whether an action may still turn up: an unknown value may be one, or null.
    fn may_act(&self) -> bool {
        self.inline.is_unknown()
            || self.script.is_unknown()
            || self.content.is_unknown()
            || self.upload.is_unknown()
            || self.reboot.is_unknown()
    }

    /// Checks what can be said before values are known.
    pub(super) fn validate(&self, path: &Path, diags: &mut Diagnostics) {
        let actions = self.actions();
        if actions.len() > 1 || (actions.is_empty() && !self.may_act()) {
            let found = if actions.is_empty() { "none".to_owned() } else { actions.join(", ") };
            let text = format!(
                "A step has exactly one of inline, script, content, upload and reboot = true; this one has {found}."
            );
            diags.error(path.clone(), "Unclear provisioning step", text);
        }
        environment_names(&self.environment, &path.attr("environment"), diags);
        environment_names(&self.environment_wo, &path.attr("environment_wo"), diags);
        if self.reboot.known() == Some(&true) && self.user.is_known() {
            diags.error(path.attr("user"), "Unused attribute", "A reboot has no user.");
        }
        if self.upload.is_known() && self.user.is_known() {
            let text = "An upload is made by root; `upload.owner` says whom the files belong to.";
            diags.error(path.attr("user"), "Unused attribute", text);
        }
    }

    /// The step as the build gets it. Reads the script. Everything in it is known; `config` has the secrets.
    pub(super) fn spec(&self, config: &Self, path: &Path, diags: &mut Diagnostics) -> Option<Step> {
        let action = self.action(path, diags)?;
        let environment = environment(&self.environment, &config.environment_wo);
        let timeout = self.timeout.known().and_then(|text| tfplugin::parse_duration(text).ok());
        Some(Step { action, environment, user: self.user.known().cloned(), timeout })
    }

    fn action(&self, path: &Path, diags: &mut Diagnostics) -> Option<Action> {
        if let Some(lines) = self.inline.known() {
            return Some(Action::Inline(lines.clone()));
        }
        if let Some(content) = self.content.known() {
            return Some(Action::Script { name: "content".into(), content: content.clone() });
        }
        if let Some(upload) = self.upload.known() {
            return upload.action(&path.attr("upload"), diags);
        }
        let Some(script) = self.script.known() else { return Some(Action::Reboot) };
        match std::fs::read(script).map(String::from_utf8) {
            Ok(Ok(content)) => Some(Action::Script { name: script.clone(), content }),
            Ok(Err(_)) => {
                let text = format!("{script} is not text in UTF-8. To run a binary, upload it and call it.");
                diags.error(path.attr("script"), "Script is not text", text);
                None
            }
            Err(error) => {
                let text = format!(
                    "Cannot read {script}: {error}. Relative paths start where the command runs; write \"${{path.module}}/…\"."
                );
                diags.error(path.attr("script"), "Script cannot be read", text);
                None
            }
        }
    }
}

impl UploadModel {
    fn action(&self, path: &Path, diags: &mut Diagnostics) -> Option<Action> {
        let source = self.source.known()?;
        if let Err(error) = std::fs::metadata(source) {
            let text = format!(
                "Cannot read {source}: {error}. Relative paths start where the command runs; write \"${{path.module}}/…\"."
            );
            diags.error(path.attr("source"), "File to upload cannot be read", text);
            return None;
        }
        Some(Action::Upload {
            source: PathBuf::from(source),
            destination: self.destination.known()?.clone(),
            mode: self.mode.known().and_then(|text| u32::from_str_radix(text, 8).ok()),
            owner: self.owner.known().cloned(),
        })
    }
}

/// Plain and secret variables together.
pub(super) fn environment(
    plain: &Attr<BTreeMap<String, String>>,
    secret: &Attr<BTreeMap<String, String>>,
) -> Environment {
    let secrets = secret.clone().unwrap_or_default();
    Environment {
        plain: plain.clone().unwrap_or_default(),
        secret: secrets.into_iter().map(|(name, value)| (name, Secret::new(value))).collect(),
    }
}

/// Checks the names and values of variables.
pub(super) fn environment_names(
    variables: &Attr<BTreeMap<String, String>>,
    path: &Path,
    diags: &mut Diagnostics,
) {
    for (name, value) in variables.known().into_iter().flatten() {
        if let Err(why) = names::variable(name) {
            diags.error(path.clone(), "Invalid variable", format!("{why}."));
        }
        if let Err(why) = names::text(value) {
            diags.error(path.key(name), "Invalid variable", format!("The value of {name} {why}."));
        }
    }
}

fn mode(text: &str) -> Result<(), String> {
    match u32::from_str_radix(text, 8) {
        Ok(bits) if bits <= 0o7777 && !text.starts_with('+') => Ok(()),
        _ => Err(format!("{text:?} is no mode: write permission bits in octal, such as \"0644\"")),
    }
}
