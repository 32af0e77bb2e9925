//! `packer = { … }` of an image.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tfplugin::{Attr, Diagnostics, Model};

use super::{CLOUD, REGION, TemplateSpec};
use crate::backends::{ImageSection, Target};
use crate::domain::rules::one_of;
use crate::domain::{Image, names};
use crate::process::Secret;

/// Builds a Packer template of your own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Model)]
pub struct PackerImageModel {
    /// The template: a `.pkr.hcl`, `.pkr.json` or `.json` file, or a folder of the former two.
    #[attr(required, validate = path)]
    pub template: Attr<String>,
    /// Where Packer runs, which is what relative paths in the template start from. The template's folder when not set.
    #[attr(optional, validate = path)]
    pub directory: Attr<String>,
    /// Values of the template's variables. They travel in a file that only you can read. For a variable that is neither a string,
    /// a number nor a bool, write `jsonencode(…)`.
    #[attr(optional)]
    pub variables: Attr<BTreeMap<String, String>>,
    /// Like `variables`, for secrets: never stored in plan or state, and removed from all output.
    #[attr(optional, write_only)]
    pub variables_wo: Attr<BTreeMap<String, String>>,
    /// Stands for `variables_wo` in the cache key: raise it to build again with new secrets.
    #[attr(optional)]
    pub variables_wo_version: Attr<i64>,
    /// Files of values, `.hcl` or `.json`, as for Packer's `-var-file`. A later one wins, and `variables` over all of them.
    #[attr(optional)]
    pub variable_files: Attr<Vec<String>>,
    /// The builds that are meant, as for Packer's `-only`; all when not set.
    #[attr(optional, validate = builds)]
    pub only: Attr<Vec<String>>,
    /// Builds and post-processors that are left out, as for Packer's `-except`.
    #[attr(optional, validate = builds)]
    pub except: Attr<Vec<String>>,
    /// What Packer does when a build fails: `"cleanup"`, `"abort"` (leaves everything as it is, for a look; it has to be removed
    /// by hand) or `"run-cleanup-provisioner"`.
    #[attr(optional, default = "cleanup", validate = on_error)]
    pub on_error: Attr<String>,
    /// How many builds of the template run at a time; 0 for all, which is Packer's default.
    #[attr(optional)]
    pub parallel_builds: Attr<u32>,
    /// Whether Packer deletes what is in the way of an artifact, such as an AMI of the same name.
    #[attr(optional, default = false)]
    pub force: Attr<bool>,
    /// Whether builds run one after the other and tell more. Some builders then leave their private keys where Packer runs.
    #[attr(optional, default = false)]
    pub debug: Attr<bool>,
}

/// A thing that Packer made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Model)]
pub struct PackerArtifactModel {
    /// Which kind of builder or post-processor made it, such as `"mitchellh.amazonebs"`.
    #[attr(computed)]
    pub builder_id: Attr<String>,
    /// Its id in the builder's own form; for an AMI `"REGION:AMI"`.
    #[attr(computed)]
    pub id: Attr<String>,
    /// Its files on this computer.
    #[attr(computed)]
    pub files: Attr<Vec<String>>,
    /// Whether it is looked after: noticed when it is gone, deleted with the image.
    #[attr(computed)]
    pub managed: Attr<bool>,
}

/// What in `packer` describes the image's content: the key is made of it.
pub const CONTENT: &[&str] =
    &["template", "directory", "variables", "variables_wo_version", "variable_files", "only", "except"];

impl PackerImageModel {
    /// What is to be built; `config` has the secrets. None when the current folder is not known.
    fn spec(&self, config: &Self) -> Option<TemplateSpec> {
        let template = absolute(self.template.known()?)?;
        let directory = match self.directory.known() {
            Some(directory) => absolute(directory)?,
            None if template.is_dir() => template.clone(),
            None => template.parent()?.to_owned(),
        };
        let files = self.variable_files.known().into_iter().flatten();
        let secrets = config.variables_wo.known().cloned().unwrap_or_default();
        Some(TemplateSpec {
            directory,
            variables: self.variables.clone().unwrap_or_default(),
            secrets: secrets.into_iter().map(|(name, value)| (name, Secret::new(value))).collect(),
            secrets_known: !config.variables_wo.is_unknown(),
            secrets_version: self.variables_wo_version.known().copied(),
            variable_files: files.map(|file| absolute(file)).collect::<Option<_>>()?,
            only: self.only.clone().unwrap_or_default(),
            except: self.except.clone().unwrap_or_default(),
            on_error: self.on_error.known().cloned().unwrap_or_else(|| "cleanup".to_owned()),
            parallel_builds: self.parallel_builds.known().copied(),
            force: self.force.unwrap_or(false),
            debug: self.debug.unwrap_or(false),
            template,
        })
    }
}

impl ImageSection for PackerImageModel {
    fn cloud(&self) -> &'static str {
        CLOUD
    }

    fn offer(&self) -> &'static str {
        "`packer = { … }` a Packer template of yours"
    }

    fn region(&self) -> Attr<&str> {
        Attr::Known(REGION)
    }

    fn content(&self) -> Option<&'static [&'static str]> {
        Some(CONTENT)
    }

    fn target(
        &self,
        config: Option<&dyn ImageSection>,
        _region: &str,
        _path: &tfplugin::Path,
        _diags: &mut Diagnostics,
    ) -> Option<Arc<dyn Target>> {
        // Secrets stand in the configuration alone, which may still be unknown as a whole.
        let secrets = Self { variables_wo: Attr::Unknown, ..self.clone() };
        let config = config.and_then(|config| config.of::<Self>());
        Some(Arc::new(self.spec(config.unwrap_or(&secrets))?))
    }

    fn imported(_image: &Image, _home: &str) -> Self {
        Self::default()
    }
}

/// From where the host runs, without `.` in it. Touches nothing.
fn absolute(path: &str) -> Option<PathBuf> {
    let path = std::path::absolute(Path::new(path)).ok()?;
    Some(path.components().collect())
}

fn path(value: &str) -> Result<(), String> {
    names::text(value)?;
    if value.is_empty() { Err("must not be empty".into()) } else { Ok(()) }
}

fn on_error(value: &str) -> Result<(), String> {
    if value == "ask" {
        return Err("\"ask\" waits for an answer, and nobody is there to give one: use \"abort\" to look at what is left".into());
    }
    one_of(value, &["cleanup", "abort", "run-cleanup-provisioner"])
}

fn builds(names: &[String]) -> Result<(), String> {
    match names.iter().find(|name| name.is_empty() || name.contains([',', '\0'])) {
        Some(bad) => {
            Err(format!("{bad:?} is no build: write each one as an element of the list, without commas"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_packer_would_wait_for_is_refused() {
        for (value, words) in [("ask", Some("nobody")), ("no", Some("is not possible")), ("abort", None)] {
            assert_eq!(
                on_error(value).err().is_some_and(|it| words.is_some_and(|w| it.contains(w))),
                words.is_some()
            );
        }
        let list = |names: &[&str]| builds(&names.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>());
        assert!(list(&["amazon-ebs.web", "qemu.*"]).is_ok() && list(&[]).is_ok());
        assert!(list(&["a,b"]).is_err() && list(&[""]).is_err());
    }

    #[test]
    fn packer_runs_where_the_template_is_unless_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.pkr.hcl");
        let of = |template: &Path, directory: Option<&str>| {
            let model = PackerImageModel {
                template: template.display().to_string().into(),
                directory: directory.map(str::to_owned).into(),
                ..PackerImageModel::default()
            };
            model.spec(&model).unwrap().directory
        };
        assert_eq!(of(&file, None), dir.path());
        assert_eq!(of(dir.path(), None), dir.path());
        assert_eq!(of(&file, Some("/srv/./x")), Path::new("/srv/x"));
    }
}
