//! From the configuration to what a build needs, with every mistake said on its attribute.

use std::sync::Arc;
use std::time::Duration;

use tfplugin::{Attr, Diagnostics, Path};

use super::{ImageModel, step};
use crate::backends::{ImageAround, ImageSection, KeyError, Target};
use crate::diagnose;
use crate::domain::cache_key::{CacheKey, KeyInputs};
use crate::domain::{Check, Distribution, ImageSpec, Labels, OnError, Security, Tagging};

/// An image as asked for, with the key under which it is found.
#[derive(Debug, Clone)]
pub struct ImageRequest {
    /// What goes into it.
    pub spec: ImageSpec,
    /// Who makes it.
    pub target: Arc<dyn Target>,
    /// Equal keys, equal images.
    pub key: CacheKey,
    /// What the key is made of, beside the specification.
    pub key_inputs: KeyInputs,
}

/// What concerns an image's management rather than its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether an identical image is used.
    pub cache: bool,
    /// The greatest age of a hit.
    pub max_age: Option<Duration>,
    /// Whether destroy leaves the image.
    pub retain: bool,
    /// What can change in place.
    pub labels: Labels,
    /// Where else it is, who may use it, when it ages.
    pub distribution: Distribution,
}

/// The attributes that describe an image's content beside the sections: the cache key depends on them.
const CONTENT: &[&str] =
    &["name_prefix", "triggers", "environment", "environment_wo_version", "provision", "security", "verify"];

/// Where content is described.
pub fn content() -> impl Iterator<Item = Path> {
    let sections: Vec<Path> = ImageModel::default().slots().iter().flat_map(|slot| slot.content()).collect();
    CONTENT.iter().map(|name| Path::from(*name)).chain(sections)
}

/// Those of them that make no sense for an image that exists already.
const NOT_FOR_EXISTING: &[&str] = &[
    "name_prefix",
    "description",
    "max_age",
    "triggers",
    "tags",
    "channels",
    "environment",
    "environment_wo",
    "environment_wo_version",
    "provision",
    "security",
    "verify",
];

/// Those of them, and of what can change in place, that make no sense with a template of the user's own.
const NOT_FOR_TEMPLATES: &[(&str, &str)] = &[
    ("existing_image_id", "adopts an image: use `aws` or `qemu`"),
    ("description", "describes the image: the template says so itself"),
    ("tags", "tags the image: the template says so itself"),
    ("channels", "promotes the image: the template tags what it makes itself"),
    ("environment", "is for steps: the template has its own, and gets values by `packer.variables`"),
    ("environment_wo", "is for steps: the template has its own, and gets secrets by `packer.variables_wo`"),
    ("environment_wo_version", "is for steps: use `packer.variables_wo_version`"),
    ("provision", "has steps: the template has its own"),
    ("security", "is what is removed after the steps: the template has its own"),
    ("verify", "has checks: the template has its own provisioners"),
];

impl ImageModel {
    /// Checks what can be said before values are known.
    pub fn validate(&self, config: &tfplugin::Value, diags: &mut Diagnostics) {
        let (root, all) = (Path::root(), self.slots());
        let set = all.iter().filter(|slot| !slot.section().is_null()).count();
        if set == 0 || all.iter().filter(|slot| slot.section().is_known()).count() > 1 {
            let summary = if set == 0 { "No backend" } else { "Two backends" };
            let offers: Vec<_> = all.iter().map(|slot| slot.offer()).collect();
            diags.error(root.clone(), summary, format!("Set exactly one: {}.", offers.join(", ")));
        }
        let around = ImageAround {
            existing: &self.existing_image_id,
            description: &self.description,
            channels: &self.channels,
            tags: &self.tags,
        };
        for section in all.iter().filter_map(|slot| slot.section().into_known()) {
            let at = root.attr(section.cloud());
            section.validate(&around, &at, diags);
            if !self.existing_image_id.is_known() && section.distribution().is_public() {
                self.validate_public(section, &at.attr("share").attr("public"), diags);
            }
        }
        if self.packer.is_known() {
            self.validate_template(config, diags);
        }
        if self.existing_image_id.is_null() {
            if self.name_prefix.is_null() {
                let text = "An image that is built needs `name_prefix`, what its name begins with.";
                diags.error(root.attr("name_prefix"), "Missing name", text);
            }
        } else if self.existing_image_id.is_known() {
            let set =
                |name: &&&str| config.get(name).is_some_and(|value| !value.is_unknown() && !value.is_null());
            for name in NOT_FOR_EXISTING.iter().filter(set) {
                let text = format!(
                    "`existing_image_id` adopts an image as it is; `{name}` describes one that is built. Remove one of them."
                );
                diags.error(root.attr(*name), "Conflicting attributes", text);
            }
        }
        step::environment_names(&self.environment, &root.attr("environment"), diags);
        step::environment_names(&self.environment_wo, &root.attr("environment_wo"), diags);
        for (index, step) in self.provision.known().into_iter().flatten().enumerate() {
            step.validate(&root.attr("provision").index(index), diags);
        }
    }

    /// A template says itself what is in the image.
    fn validate_template(&self, config: &tfplugin::Value, diags: &mut Diagnostics) {
        let set = |name: &str| config.get(name).is_some_and(|value| !value.is_unknown() && !value.is_null());
        for (name, why) in NOT_FOR_TEMPLATES.iter().filter(|(name, _)| set(name)) {
            let text = format!("`{name}` {why}. Remove it, or `packer`.");
            diags.error(Path::from(*name), "Conflicting attributes", text);
        }
        if self.on_error.known_deref() == Some("keep") {
            let text = "With a template of your own, say `packer = { on_error = \"abort\" }`: Packer then leaves everything as it is.";
            diags.error(Path::from("on_error"), "Conflicting attributes", text);
        }
    }

    /// An image for everybody has nothing of its builder left: somebody looks, or answers for it.
    fn validate_public(&self, section: &dyn ImageSection, at: &Path, diags: &mut Diagnostics) {
        let security = self.security.clone().unwrap_or_default();
        let steps = [&security.clean_sensitive_data, &security.remove_ssh_host_keys];
        if steps.iter().any(|step| step.known() == Some(&false)) {
            let text = "Everybody can read what is in a public image: leave `security.clean_sensitive_data` and `security.remove_ssh_host_keys` on.";
            diags.error(at.clone(), "Public image is not cleaned", text);
            return;
        }
        let is_said = self.security.is_unknown() || steps.iter().all(|step| !step.is_null());
        let is_looked_at = matches!(section.is_looked_through(), Attr::Unknown | Attr::Known(true));
        if !is_said && !is_looked_at {
            let text = "Everybody can read what is in a public image. Set `verify_boot = true`: a machine from the image is looked through for what the build was to remove. Or look yourself, and say `security = { clean_sensitive_data = true, remove_ssh_host_keys = true }`.";
            diags.error(at.clone(), "Nobody looks whether the public image is clean", text);
        }
    }

    /// The image that is asked for. `self` is the plan, whose content must be known; `config` has the secrets; `region` is
    /// where it is or is to be, for a cloud that has some.
    /// None, and at least one error in `diags`, when something is wrong with it.
    pub fn request(&self, config: &Self, region: &str, diags: &mut Diagnostics) -> Option<ImageRequest> {
        let root = Path::root();
        let target = self.section().and_then(|section| {
            let path = root.attr(section.cloud());
            section.target(config.section(), region, &path, diags)
        });
        let steps: Vec<_> = self
            .provision
            .known()
            .into_iter()
            .flatten()
            .enumerate()
            .map(|(index, step)| {
                let secrets = config.provision.known().and_then(|steps| steps.get(index)).unwrap_or(step);
                step.spec(secrets, &root.attr("provision").index(index), diags)
            })
            .collect();
        let spec = ImageSpec {
            name_prefix: self.name_prefix.clone().unwrap_or_default(),
            environment: step::environment(&self.environment, &config.environment_wo),
            steps: steps.into_iter().collect::<Option<_>>()?,
            security: self.security_spec(),
            checks: self.checks(),
            on_error: if self.on_error.known_deref() == Some("keep") {
                OnError::Keep
            } else {
                OnError::Cleanup
            },
        };
        let target = target?;
        let problems = diagnose::impossible(target.problems(&spec));
        if problems.has_errors() {
            diags.extend(problems);
            return None;
        }
        let (key, key_inputs) = self.key(&spec, target.as_ref(), diags)?;
        Some(ImageRequest { spec, target, key, key_inputs })
    }

    fn key(
        &self,
        spec: &ImageSpec,
        target: &dyn Target,
        diags: &mut Diagnostics,
    ) -> Option<(CacheKey, KeyInputs)> {
        let root = Path::root();
        let target = match target.key_inputs() {
            Ok(inputs) => inputs,
            Err(KeyError::Template(mistakes)) => {
                for it in mistakes {
                    diags.error(diagnose::attribute_path(&it.attribute), it.summary, it.problem);
                }
                return None;
            }
            Err(KeyError::Unreadable { attribute, summary, source }) => {
                diags.error(diagnose::attribute_path(attribute), summary, diagnose::chain(source.as_ref()));
                return None;
            }
        };
        let versions = self.provision.known().into_iter().flatten();
        let inputs = KeyInputs {
            secrets_version: self.environment_wo_version.known().copied(),
            step_secrets_versions: versions
                .map(|step| step.environment_wo_version.known().copied())
                .collect(),
            triggers: self.triggers.clone().unwrap_or_default(),
            target,
        };
        match CacheKey::of(spec, &inputs) {
            Ok(key) => Some((key, inputs)),
            Err(error) => {
                let path = root.attr("provision").index(error.step).attr("upload").attr("source");
                diags.error(path, "File to upload cannot be read", diagnose::chain(&error));
                None
            }
        }
    }

    /// What its build removes.
    pub fn security_spec(&self) -> Security {
        let security = self.security.clone().unwrap_or_default();
        Security {
            clean_sensitive_data: security.clean_sensitive_data.unwrap_or(true),
            remove_ssh_host_keys: security.remove_ssh_host_keys.unwrap_or(true),
        }
    }

    fn checks(&self) -> Vec<Check> {
        let checks = self.verify.known().into_iter().flatten();
        checks
            .map(|check| Check {
                name: check.name.clone().unwrap_or_default(),
                command: check.command.clone().unwrap_or_default(),
            })
            .collect()
    }

    /// What concerns the image's management.
    pub fn settings(&self, tagging: &Tagging) -> Settings {
        let mut tags = tagging.all(self.tags.clone().unwrap_or_default());
        if !self.packer.is_null() {
            // Nobody but the template gives what it makes its tags.
            tags.clear();
        }
        Settings {
            cache: self.cache.unwrap_or(true),
            max_age: self.max_age.known().and_then(|text| tfplugin::parse_duration(text).ok()),
            retain: self.retain_on_destroy.unwrap_or(false),
            labels: Labels {
                description: self.description.known().cloned(),
                tags,
                channels: self.channels.clone().unwrap_or_default(),
            },
            distribution: self.section().map(ImageSection::distribution).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests;
