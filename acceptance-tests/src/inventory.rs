//! The oracle for "nothing is left": files in the data folder, processes that know of it, mounts below it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// What may stay after everything is destroyed: logs are for the user, and the store's identity
/// outlives its content.
const KEPT: [&str; 3] = ["logs", "store.json", "store.lock"];

/// What is on a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Files in the data folder, relative to it; logs and the store's identity left out.
    pub files: Vec<PathBuf>,
    /// Processes whose command line names the data folder, as `PID COMMAND LINE`.
    pub processes: Vec<String>,
    /// Mount points below the data folder.
    pub mounts: Vec<String>,
}

impl Inventory {
    pub(crate) fn take(data_dir: &Path) -> Result<Self> {
        let mut files = Vec::new();
        if data_dir.exists() {
            list(data_dir, data_dir, &mut files)?;
        }
        files.sort();
        Ok(Inventory { files, processes: processes_naming(data_dir)?, mounts: mounts_below(data_dir)? })
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        *self == Inventory::default()
    }

    /// The ids in one of the store's folders: `images`, `vms`.
    pub fn ids(&self, folder: &str) -> Vec<String> {
        let below = self.files.iter().filter_map(|file| file.strip_prefix(folder).ok());
        let mut ids: Vec<_> = below
            .filter(|rest| rest.components().count() > 1)
            .filter_map(|rest| Some(rest.components().next()?.as_os_str().to_string_lossy().into_owned()))
            .filter(|id| !id.starts_with('.'))
            .collect();
        ids.dedup();
        ids
    }

    /// # Errors
    /// When anything is left: names it all.
    pub fn ensure_empty(&self) -> Result<()> {
        ensure!(self.is_empty(), "left behind:\n{self}");
        Ok(())
    }
}

impl fmt::Display for Inventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            writeln!(f, "  file {}", file.display())?;
        }
        for process in &self.processes {
            writeln!(f, "  process {process}")?;
        }
        for mount in &self.mounts {
            writeln!(f, "  mount {mount}")?;
        }
        Ok(())
    }
}

fn list(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let entry = entry?;
        let path = entry.path();
        let relative = path.strip_prefix(root)?;
        if KEPT.iter().any(|kept| relative == Path::new(kept)) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            list(root, &path, files)?;
        } else {
            files.push(relative.to_owned());
        }
    }
    Ok(())
}

/// Every process, of any parent, that knows of the folder: by its arguments, by where it stands, or by
/// what is mounted in a namespace of its own.
fn processes_naming(folder: &Path) -> Result<Vec<String>> {
    let needle = folder.to_string_lossy().into_owned();
    let own_namespace = fs::read_link("/proc/self/ns/mnt").context("reading /proc/self/ns")?;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("listing /proc")? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        // A process may end while we look; a zombie has no command line.
        let process = entry.path();
        let Ok(cmdline) = fs::read(process.join("cmdline")) else { continue };
        let cmdline = String::from_utf8_lossy(&cmdline).replace('\0', " ");
        let in_folder = fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        let apart = fs::read_link(process.join("ns/mnt")).is_ok_and(|namespace| namespace != own_namespace);
        let mounts = || fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
        if cmdline.contains(&needle) || in_folder || (apart && mounts().contains(&needle)) {
            found.push(format!("{name} {}", cmdline.trim_end()));
        }
    }
    Ok(found)
}

fn mounts_below(folder: &Path) -> Result<Vec<String>> {
    let table = fs::read_to_string("/proc/self/mounts").context("reading the mount table")?;
    let points = table.lines().filter_map(|line| line.split_whitespace().nth(1));
    Ok(points.filter(|point| Path::new(point).starts_with(folder)).map(str::to_owned).collect())
}
