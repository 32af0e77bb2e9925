//! `sindri_template` as it stands in configuration and state: an image's own attributes, as far as they describe what is
//! built, and what is shown of it.
//!
//! Hosts keep a data source's whole configuration in state, so that secrets have no place in it: where an image has
//! `environment_wo`, this has the names.

use std::collections::{BTreeMap, BTreeSet};

use tfplugin::{Attr, Model};

use crate::backends::aws::model::AwsImageModel;
use crate::backends::qemu::model::QemuImageModel;
use crate::domain::template::{HIDDEN, Script, Template};
use crate::domain::{ImageSpec, Origin, names};
use crate::packer::Version;
use crate::resources::image::model::{
    CheckModel, ImageModel, SecurityModel, StepModel, UploadModel, on_error,
};

/// What an image would be built of, without building it: Packer's template, its variables, and the scripts that are run.
/// It takes the same configuration as `sindri_image`, as far as that says what is built. Nothing is made or asked for in
/// a cloud; what only a build has is told by words in parentheses or by zeros.
#[derive(Debug, Clone, Default, Model)]
pub struct TemplateModel {
    /// What the image's name begins with.
    #[attr(required, validate = names::object)]
    pub name_prefix: Attr<String>,
    /// More inputs of the cache key.
    #[attr(optional)]
    pub triggers: Attr<BTreeMap<String, String>>,
    /// Tags of the image. They win over the provider's `default_tags`.
    #[attr(optional)]
    pub tags: Attr<BTreeMap<String, String>>,
    /// An image on this computer. With `engine = "packer"` there is a template; with the native engine there are only
    /// scripts.
    #[attr(optional)]
    pub qemu: Attr<QemuImageModel>,
    /// An image on AWS.
    #[attr(optional)]
    pub aws: Attr<AwsImageModel>,
    /// Environment variables of all steps. What is shown has their names, never their values.
    #[attr(optional)]
    pub environment: Attr<BTreeMap<String, String>>,
    /// Names of the variables in the image's `environment_wo`: a data source would keep the values.
    #[attr(optional, validate = variables)]
    pub environment_wo_names: Attr<BTreeSet<String>>,
    /// The image's `environment_wo_version`, which is in the cache key.
    #[attr(optional)]
    pub environment_wo_version: Attr<i64>,
    /// What is done in the image, in order. Each step has exactly one of `inline`, `script`, `content`, `upload`
    /// and `reboot`.
    #[attr(optional)]
    pub provision: Attr<Vec<TemplateStepModel>>,
    /// What is removed at the end of a build.
    #[attr(optional)]
    pub security: Attr<SecurityModel>,
    /// Commands that must succeed: in the finished image; on AWS in the builder, unless `aws.verify_boot` is set.
    #[attr(optional)]
    pub verify: Attr<Vec<CheckModel>>,
    /// The image's `on_error`: `"cleanup"` or `"keep"`.
    #[attr(optional, validate = on_error)]
    pub on_error: Attr<String>,

    /// For which Packer the template is written, such as `"1.11.2"`; for the one that is found when not set. When it is set,
    /// no Packer is needed, unless it is to validate.
    #[attr(optional, computed, validate = packer_version)]
    pub packer_version: Attr<String>,
    /// Whether Packer is asked to validate what is shown, in a private folder, with plugins as in a build. What it has
    /// against it is an error. Default false.
    #[attr(optional)]
    pub validate: Attr<bool>,

    /// Packer's template, in the form that Packer takes; without `validate`, in the first that a build would try. No value
    /// is in it. Null with the native engine.
    #[attr(computed)]
    pub hcl: Attr<String>,
    /// The template's variables, in JSON, as they stand in a file beside it. Null with the native engine.
    #[attr(computed)]
    pub variables: Attr<String>,
    /// What is done in the image, in order. What a sensitive value was interpolated into is not marked as sensitive here:
    /// a host hides what was given, and not what became of it.
    #[attr(computed)]
    pub scripts: Attr<Vec<ScriptModel>>,
    /// The cache key of such an image: equal keys, equal images.
    #[attr(computed)]
    pub cache_key: Attr<String>,
    /// Names of the environment variables whose values are left out of `scripts`: all of them.
    #[attr(computed)]
    pub hidden_variables: Attr<BTreeSet<String>>,
}

/// One provisioning step. Exactly one of `inline`, `script`, `content`, `upload` and `reboot` is set.
#[derive(Debug, Clone, Default, Model)]
pub struct TemplateStepModel {
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
    /// Restarts the guest and waits until it is back.
    #[attr(optional)]
    pub reboot: Attr<bool>,
    /// Environment variables of this step; they win over those of all steps.
    #[attr(optional)]
    pub environment: Attr<BTreeMap<String, String>>,
    /// Names of the variables in the step's `environment_wo`.
    #[attr(optional, validate = variables)]
    pub environment_wo_names: Attr<BTreeSet<String>>,
    /// The step's `environment_wo_version`, which is in the cache key.
    #[attr(optional)]
    pub environment_wo_version: Attr<i64>,
    /// Who runs the step; root when not set.
    #[attr(optional, validate = names::user)]
    pub user: Attr<String>,
    /// The longest time that the step may take, such as `"20m"`.
    #[attr(optional, validate = tfplugin::is_duration)]
    pub timeout: Attr<String>,
}

/// One thing that is done in the image.
#[derive(Debug, Clone, Default, Model)]
pub struct ScriptModel {
    /// What logs and messages call it, such as `2 (setup.sh)`.
    #[attr(computed)]
    pub name: Attr<String>,
    /// `"script"`, `"upload"`, `"reboot"`, or `"return"`, which waits for the guest to be back.
    #[attr(computed)]
    pub kind: Attr<String>,
    /// The attribute that it comes from: `"provision"`, `"verify"` or `"security"`; `"sindri"` for what every build does.
    #[attr(computed)]
    pub belongs_to: Attr<String>,
    /// The position in `provision`, from 0. Null for what is no step.
    #[attr(computed)]
    pub step: Attr<u64>,
    /// Its file as `variables` names it. Null where Packer does not run it.
    #[attr(computed)]
    pub file: Attr<String>,
    /// The file's text, as a shell in the guest reads it; with the native engine the script itself. Null for an upload.
    #[attr(computed)]
    pub content: Attr<String>,
}

impl TemplateModel {
    /// The image, with words for the values of secret variables.
    pub(super) fn image(&self) -> ImageModel {
        let steps = |steps: &Vec<TemplateStepModel>| steps.iter().map(TemplateStepModel::step).collect();
        ImageModel {
            name_prefix: self.name_prefix.clone(),
            triggers: self.triggers.clone(),
            tags: self.tags.clone(),
            qemu: self.qemu.clone(),
            aws: self.aws.clone(),
            environment: self.environment.clone(),
            environment_wo: hidden(&self.environment_wo_names),
            environment_wo_version: self.environment_wo_version,
            provision: self.provision.as_ref().map(steps),
            security: self.security.clone(),
            verify: self.verify.clone(),
            on_error: self.on_error.clone(),
            ..ImageModel::default()
        }
    }

    /// Fills in what is shown.
    pub(super) fn show(&mut self, template: Template, spec: &ImageSpec) {
        let variables = template.variables.map(|variables| format!("{variables:#}\n"));
        self.packer_version = template.packer_version.into();
        self.hcl = template.hcl.into();
        self.variables = variables.into();
        self.scripts = Attr::Known(template.scripts.into_iter().map(ScriptModel::from).collect());
        let all = std::iter::once(&spec.environment).chain(spec.steps.iter().map(|step| &step.environment));
        let names = all.flat_map(|one| one.plain.keys().chain(one.secret.keys()).cloned());
        self.hidden_variables = Attr::Known(names.collect());
    }
}

impl TemplateStepModel {
    fn step(&self) -> StepModel {
        let Self { inline, script, content, upload, reboot, .. } = self.clone();
        StepModel {
            inline,
            script,
            content,
            upload,
            reboot,
            environment: self.environment.clone(),
            environment_wo: hidden(&self.environment_wo_names),
            environment_wo_version: self.environment_wo_version,
            user: self.user.clone(),
            timeout: self.timeout.clone(),
        }
    }
}

impl From<Script> for ScriptModel {
    fn from(script: Script) -> Self {
        let (belongs_to, step) = match script.of {
            Origin::Sindri => ("sindri", None),
            Origin::Step(index) => ("provision", u64::try_from(index).ok()),
            Origin::Check => ("verify", None),
            Origin::Cleanup => ("security", None),
        };
        Self {
            name: script.name.into(),
            kind: script.kind.into(),
            belongs_to: belongs_to.into(),
            step: step.into(),
            file: script.file.into(),
            content: script.content.into(),
        }
    }
}

/// Names that are none are told of by the attribute's own check.
fn hidden(all: &Attr<BTreeSet<String>>) -> Attr<BTreeMap<String, String>> {
    let good = |name: &&String| names::variable(name).is_ok();
    all.as_ref().map(|all| all.iter().filter(good).map(|name| (name.clone(), HIDDEN.to_owned())).collect())
}

fn variables(all: &BTreeSet<String>) -> Result<(), String> {
    all.iter().try_for_each(|name| names::variable(name))
}

fn packer_version(text: &str) -> Result<(), String> {
    match Version::of_text(text) {
        Some(_) => Ok(()),
        None => Err(format!("{text:?} is no version of Packer: write it as \"1.11.2\"")),
    }
}
