//! A machine's worth of provider state in a folder of its own, so that scenarios do not meet.
//! Only the cache of bootstrapped layers is shared between them, as it is between a user's projects.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::cli::provider_folder;
use crate::{Cli, Inventory, Workspace, disk};

/// The state of one pretended machine. Dropping it removes the folder.
#[derive(Debug)]
pub struct Host {
    folder: TempDir,
}

impl Host {
    /// A machine on which nothing was built.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new() -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("sindri-").tempdir().context("making a host's folder")?;
        Ok(Host { folder })
    }

    /// A workspace on this machine: a copy of `examples/NAME` or of `acceptance-tests/scenarios/NAME`.
    ///
    /// # Errors
    /// When there is no such folder or the program is missing.
    pub fn workspace(&self, cli: Cli, scenario: &str) -> Result<Workspace> {
        Workspace::new(self, cli, scenario)
    }

    /// A workspace of the scenario `image`, for what has nothing to do with what is in an image: it is of a
    /// [blank disk](disk::blank).
    ///
    /// # Errors
    /// As [`Host::workspace`], and when the disk cannot be written.
    pub fn blank_image(&self, cli: Cli) -> Result<Workspace> {
        let mut workspace = self.workspace(cli, "image")?;
        workspace.env("TF_VAR_base", disk::blank(self.path())?);
        Ok(workspace)
    }

    /// What the provider calls `data_dir`.
    pub fn data_dir(&self) -> PathBuf {
        self.data_home().join("sindri")
    }

    /// Everything the provider has left on this machine.
    ///
    /// # Errors
    /// When /proc or the folder cannot be read.
    pub fn inventory(&self) -> Result<Inventory> {
        Inventory::take(&self.data_dir())
    }

    /// The machine's own folder, for a scenario's inputs.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs the provider's binary by hand, as a person would.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn provider(&self, arguments: &[&str]) -> Result<Output> {
        Command::new(provider_folder()?.join("terraform-provider-sindri"))
            .args(arguments)
            .env("XDG_DATA_HOME", self.data_home())
            .env("XDG_CACHE_HOME", cache_home())
            .output()
            .context("starting the provider by hand")
    }

    /// A `PATH` on which everything is found but one program.
    ///
    /// # Errors
    /// When the folder of links cannot be made.
    pub fn path_without(&self, program: &str) -> Result<PathBuf> {
        let links = self.path().join(format!("without-{program}"));
        fs::create_dir(&links)?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
        for entry in folders.filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten() {
            if entry.file_name() != program {
                // The first of a name wins, as on PATH.
                let _ = std::os::unix::fs::symlink(entry.path(), links.join(entry.file_name()));
            }
        }
        Ok(links)
    }

    pub(crate) fn data_home(&self) -> PathBuf {
        self.path().join("data")
    }
}

/// `XDG_CACHE_HOME` of everything under test.
pub fn cache_home() -> PathBuf {
    let own = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = own("XDG_CACHE_HOME").or_else(|| own("HOME").map(|home| home.join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("sindri-dev/acceptance")
}

/// The code name of this machine's distribution: the suite that its own package sources have.
///
/// # Errors
/// When `/etc/os-release` cannot be read, or names none.
pub fn suite() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    let name = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(name.context("/etc/os-release names no VERSION_CODENAME")?.trim_matches('"').to_owned())
}
