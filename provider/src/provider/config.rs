//! `provider "sindri" { … }`: from the wire to the backends.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use tfplugin::{Attr, Diagnostic, Diagnostics, Model, Path, Value};

use crate::backends::Backends;
use crate::backends::aws::Aws;
use crate::backends::aws::model::AwsProviderModel;
use crate::backends::qemu::host::AcceleratorChoice;
use crate::backends::qemu::store::Store;
use crate::backends::qemu::{ForeignStore, Local};
use crate::domain::rules::one_of;
use crate::domain::tagging::{self, Tagging, Unknown};
use crate::packer;
use crate::process::Runner;

/// Machine images and virtual machines: built, found, noticed when gone, shared and deleted.
#[derive(Debug, Clone, Default, Model)]
pub struct ProviderModel {
    /// Where images, machines, logs and the journal are kept: `$XDG_DATA_HOME/sindri` when not set, else
    /// `~/.local/share/sindri`.
    #[attr(optional, validate = absolute)]
    pub data_dir: Attr<String>,
    /// Tags that every image and machine gets; its own `tags` win over them.
    #[attr(optional)]
    pub default_tags: Attr<BTreeMap<String, String>>,
    /// Keys of tags that others look after; a `*` at the end stands for whatever follows: `["owner", "cost:*"]`. An image or
    /// machine is made with such a tag, if it has one. From then on it is neither shown in `tags_all` nor changed nor removed,
    /// and its drift is no change.
    #[attr(optional, validate = tagging::ignored)]
    pub ignore_tags: Attr<BTreeSet<String>>,
    /// How the provider comes to AWS. What is not set follows the AWS tools' own chain: environment, profile, SSO, web
    /// identity, instance role.
    #[attr(optional)]
    pub aws: Attr<AwsProviderModel>,
    /// How guests on this computer run.
    #[attr(optional)]
    pub qemu: Attr<QemuProviderModel>,
    /// Which Packer is used, by what is built with Packer. Nothing else needs one.
    #[attr(optional)]
    pub packer: Attr<PackerProviderModel>,
}

/// Which Packer is used, and where its plugins are.
#[derive(Debug, Clone, Default, Model)]
pub struct PackerProviderModel {
    /// The program: a path, or a name in `PATH`. When not set, `PACKER_BIN` in the environment, then `packer` in `PATH`.
    #[attr(optional, validate = crate::domain::names::text)]
    pub binary: Attr<String>,
    /// The folder that has Packer's plugins, instead of Packer's own: for computers without a network.
    #[attr(optional, validate = absolute)]
    pub plugin_dir: Attr<String>,
    /// Whether `packer init` is left out because all plugins are there. Default false.
    #[attr(optional)]
    pub skip_init: Attr<bool>,
}

/// How guests on this computer run.
#[derive(Debug, Clone, Default, Model)]
pub struct QemuProviderModel {
    /// `"kvm"`, `"hvf"`, `"tcg"` (software emulation: slow, works everywhere), or `"auto"`, the first of them that
    /// works. Default `"auto"`.
    #[attr(optional, validate = accelerator)]
    pub accelerator: Attr<String>,
    /// What to do with an object that was made with another `data_dir` or on another computer: `"error"`, the
    /// default, or `"forget"`, which drops it from the state.
    #[attr(optional, validate = foreign_store)]
    pub foreign_store: Attr<String>,
}

impl ProviderModel {
    /// The backends; none while a value that they need is unknown. Tags are none: an object can be looked at without.
    ///
    /// # Errors
    /// When there is no folder to keep things in.
    pub fn backends(&self) -> Result<Option<Backends>, Diagnostics> {
        let without_tags = Self { default_tags: Attr::Null, ignore_tags: Attr::Null, ..self.clone() };
        if !Value::is_wholly_known(&without_tags.encode()) {
            return Ok(None);
        }
        let data_dir = match self.data_dir.known() {
            Some(dir) => PathBuf::from(dir),
            None => user_folder("XDG_DATA_HOME", ".local/share").ok_or_else(homeless)?,
        };
        let cache_dir = user_folder("XDG_CACHE_HOME", ".cache").unwrap_or_else(|| data_dir.join("cache"));
        let qemu = self.qemu.clone().unwrap_or_default();
        let runner = Runner::this_binary().map_err(|error| {
            Diagnostic::error(
                "Provider's own path unknown",
                format!("The operating system does not tell where this program is: {error}."),
            )
        })?;
        let aws = Aws::new(self.aws.clone().unwrap_or_default().settings(), data_dir.clone());
        let local = Local {
            store: Store::at(data_dir),
            packer: self.packer_settings(cache_dir.clone()),
            cache_dir,
            accelerator: AcceleratorChoice::parse(qemu.accelerator.known_deref().unwrap_or("auto"))
                .unwrap_or_default(),
            foreign_store: match qemu.foreign_store.known_deref() {
                Some("forget") => ForeignStore::Forget,
                _ => ForeignStore::Error,
            },
            runner,
            bases: Default::default(),
        };
        let tagging = Tagging {
            default: self.default_tags.clone().unwrap_or_default(),
            ignored: self.ignore_tags.clone().unwrap_or_default(),
            unknown: match (&self.default_tags, &self.ignore_tags) {
                (_, Attr::Unknown) => Unknown::Ignored,
                (Attr::Unknown, _) => Unknown::Default,
                _ => Unknown::Nothing,
            },
        };
        Ok(Some(Backends::new(tagging, local, aws)))
    }
}

impl ProviderModel {
    fn packer_settings(&self, cache_dir: PathBuf) -> packer::Settings {
        let packer = self.packer.clone().unwrap_or_default();
        packer::Settings {
            binary: packer.binary.known().map(PathBuf::from),
            plugin_dir: packer.plugin_dir.known().map(PathBuf::from),
            skip_init: packer.skip_init.unwrap_or(false),
            cache_dir: Some(cache_dir),
        }
    }
}

/// A folder of ours as the XDG Base Directory Specification has it: the variable if it is an absolute path,
/// else the default below the home.
fn user_folder(variable: &str, default: &str) -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute(variable).or_else(|| Some(absolute("HOME")?.join(default)))?;
    Some(base.join("sindri"))
}

fn homeless() -> Diagnostics {
    let text = "There is no HOME in the environment. Set `data_dir` in the provider's configuration.";
    Diagnostic::error("No folder for data", text).at(Path::from("data_dir")).into()
}

fn absolute(dir: &str) -> Result<(), String> {
    crate::domain::names::text(dir)?;
    if std::path::Path::new(dir).is_absolute() {
        return Ok(());
    }
    Err(format!("{dir:?} must be an absolute path: write abspath(\"…\")"))
}

fn accelerator(value: &str) -> Result<(), String> {
    one_of(value, &["auto", "kvm", "hvf", "tcg"])
}

fn foreign_store(value: &str) -> Result<(), String> {
    one_of(value, &["error", "forget"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_can_be_read_without_tags_and_without_nothing_else() {
        let known = || ProviderModel { data_dir: "/d".into(), ..ProviderModel::default() };
        let aws =
            |region: Attr<String>| Attr::Known(AwsProviderModel { region, ..AwsProviderModel::default() });
        for (model, unknown) in [
            (known(), Some(Unknown::Nothing)),
            (ProviderModel { default_tags: Attr::Unknown, ..known() }, Some(Unknown::Default)),
            (ProviderModel { ignore_tags: Attr::Unknown, ..known() }, Some(Unknown::Ignored)),
            (
                ProviderModel { default_tags: Attr::Unknown, ignore_tags: Attr::Unknown, ..known() },
                Some(Unknown::Ignored),
            ),
            (ProviderModel { data_dir: Attr::Unknown, ..known() }, None),
            (ProviderModel { aws: aws(Attr::Unknown), ..known() }, None),
        ] {
            let backends = model.backends().unwrap();
            assert_eq!(backends.map(|backends| backends.tagging.unknown), unknown, "{model:?}");
        }
    }
}
