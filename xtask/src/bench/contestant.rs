//! The providers that are compared, and a workspace in which OpenTofu runs one of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use acceptance_tests::Moto;
use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::repository;

/// A provider as OpenTofu finds it.
pub(crate) struct Contestant {
    /// The type's name: `sindri`, `peer`.
    pub(crate) name: &'static str,
    pub(crate) binary: PathBuf,
    /// The folder with the binary under the name that a host looks for.
    folder: PathBuf,
}

/// Ours, the other, and the OpenTofu that runs both.
pub(crate) struct Contestants {
    pub(crate) ours: Contestant,
    pub(crate) peer: Contestant,
    pub(crate) tofu: PathBuf,
    scratch: TempDir,
}

impl Contestants {
    /// Finds the release build of ours; builds the others when they are not there.
    pub(crate) fn find() -> Result<Self> {
        let scratch = tempfile::Builder::new().prefix("sindri-bench-").tempdir()?;
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| repository::root().join("target"), PathBuf::from);
        let ours = target.join("release/terraform-provider-sindri");
        ensure!(ours.is_file(), "{} is missing: run `make build`", ours.display());
        Ok(Contestants {
            ours: Contestant::new("sindri", ours, scratch.path())?,
            peer: Contestant::new("peer", acceptance_tests::built_tool("peer")?, scratch.path())?,
            tofu: acceptance_tests::built_tool("tofu")?,
            scratch,
        })
    }

    /// A folder for OpenTofu with this configuration, which names its provider by the contestant's type.
    pub(crate) fn workspace(&self, contestant: &Contestant, configuration: &str) -> Result<Workspace> {
        let folder = tempfile::Builder::new().prefix("workspace-").tempdir_in(self.scratch.path())?;
        let name = contestant.name;
        let header = format!(
            "terraform {{\n  required_providers {{ {name} = {{ source = \"sindri/{name}\" }} }}\n}}\n"
        );
        let overrides = format!(
            "provider_installation {{\n  dev_overrides {{ \"sindri/{name}\" = {:?} }}\n  direct {{}}\n}}\n",
            contestant.folder
        );
        fs::write(folder.path().join("cli.tfrc"), overrides)?;
        let (data, cache) = (self.scratch.path().join("data"), self.scratch.path().join("cache"));
        let workspace =
            Workspace { tofu: self.tofu.clone(), folder, data, cache, header, environment: Vec::new() };
        workspace.rewrite(configuration)?;
        Ok(workspace)
    }

    /// Where the provider keeps its data during the run.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.scratch.path().join("data/sindri")
    }

    /// A folder that lives as long as the run.
    pub(crate) fn scratch(&self) -> &Path {
        self.scratch.path()
    }
}

impl Contestant {
    fn new(name: &'static str, binary: PathBuf, scratch: &Path) -> Result<Self> {
        let folder = scratch.join(name);
        fs::create_dir(&folder)?;
        std::os::unix::fs::symlink(&binary, folder.join(format!("terraform-provider-{name}")))?;
        Ok(Contestant { name, binary, folder })
    }

    /// The same provider behind a program of the caller's that starts it.
    pub(crate) fn behind(&self, folder: PathBuf) -> Contestant {
        Contestant { name: self.name, binary: self.binary.clone(), folder }
    }
}

/// A configuration that OpenTofu runs.
pub(crate) struct Workspace {
    tofu: PathBuf,
    folder: TempDir,
    data: PathBuf,
    cache: PathBuf,
    header: String,
    environment: Vec<(&'static str, String)>,
}

impl Workspace {
    /// The same with an EC2 and its credentials in the environment.
    pub(crate) fn served_by(self, moto: &Moto) -> Self {
        Workspace { environment: moto.environment(), ..self }
    }

    /// Replaces the configuration.
    pub(crate) fn rewrite(&self, configuration: &str) -> Result<()> {
        let text = format!("{}{configuration}", self.header);
        fs::write(self.folder.path().join("main.tf"), text).context("writing main.tf")
    }

    /// The same with another cache of what can be made again.
    pub(crate) fn with_cache(self, cache: PathBuf) -> Self {
        Workspace { cache, ..self }
    }

    /// Runs a command of OpenTofu to its end and returns what it printed.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(&self.tofu)
            .args(arguments)
            .current_dir(self.folder.path())
            .env("TF_CLI_CONFIG_FILE", self.folder.path().join("cli.tfrc"))
            .env("TF_IN_AUTOMATION", "1")
            .env("CHECKPOINT_DISABLE", "1")
            .env("XDG_DATA_HOME", &self.data)
            .env("XDG_CACHE_HOME", &self.cache)
            .env_remove("TF_LOG")
            .envs(self.environment.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .output()
            .context("starting tofu")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "tofu {} failed: {errors}", arguments.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
