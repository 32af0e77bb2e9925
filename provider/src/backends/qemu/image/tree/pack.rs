//! Makes a root file system of a tree.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::Tree;
use crate::backends::qemu::image::{BuildError, area, disk};
use crate::process::enter::{self, ENV_PREFIX};
use crate::process::{Limits, ProcessError, says_no_space};

const MKE2FS_CONF: &str = include_str!("../../../../../../templates/mke2fs.conf");
const PACK: &str = include_str!("../../../../../../templates/scripts/pack-tree.sh");

/// Where the pieces of a packed tree are.
#[derive(Debug)]
pub(in crate::backends::qemu::image) struct Packed {
    /// A disk of the right size with the root file system in its place and nothing else.
    pub(in crate::backends::qemu::image) disk: PathBuf,
    /// The EFI system partition's files.
    pub(in crate::backends::qemu::image) esp: PathBuf,
}

/// How `mke2fs` is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::backends::qemu::image) struct Mke2fs {
    /// Options; the disk's path and the size follow them.
    pub(in crate::backends::qemu::image) args: Vec<String>,
    /// The file system's size, `1024k`.
    pub(in crate::backends::qemu::image) size: String,
    /// Variables.
    pub(in crate::backends::qemu::image) env: Vec<(&'static str, String)>,
}

impl Tree<'_> {
    /// Makes the root file system in a new disk of `size` bytes; `mke2fs` are its options, the size among them. `done` is
    /// whether all steps were: then nothing stays of how they reached mirrors.
    ///
    /// # Errors
    /// [`BuildError::TooSmall`] when the content does not fit.
    pub(in crate::backends::qemu::image) async fn pack(
        &self,
        size: u64,
        mke2fs: &Mke2fs,
        done: bool,
    ) -> Result<Packed, BuildError> {
        let folder = self.area.host(&self.folder);
        let disk = folder.join("disk.raw");
        // For the namespace's root, who is somebody else; the folder above the area keeps others out.
        let file = area::create_anew(&disk, 0o666)?;
        file.set_len(size).map_err(BuildError::io("size", &disk))?;
        self.stage("mke2fs.conf", MKE2FS_CONF)?;
        let mut args: Vec<String> = ["-euc", PACK, "sh"].map(str::to_owned).into();
        args.extend(
            ["root", "disk.raw", "esp"].map(|name| format!("{}/{}/{name}", enter::AREA, self.folder)),
        );
        args.push(mke2fs.size.clone());
        args.extend(mke2fs.args.iter().cloned());
        let mut command = self.area.command(self.host, &self.entry("sh", args, false));
        let config = format!("{}/{}/stage/mke2fs.conf", enter::AREA, self.folder);
        for (name, value) in mke2fs.env.iter().chain([&("MKE2FS_CONFIG", config)]) {
            command = command.env(format!("{ENV_PREFIX}{name}"), value);
        }
        if done {
            command = command.env(format!("{ENV_PREFIX}SINDRI_STEPS_DONE"), "1");
        }
        let limits = Limits::cancelled_by(self.cancel);
        match self.host.runner.check(&command, Some(&self.log), &limits).await {
            Ok(_) => {}
            Err(error) => {
                let failed =
                    BuildError::tool_in(&folder, format!("make the root file system {}", disk.display()));
                let ProcessError::Failed { tail, .. } = &error else { return Err(failed(error)) };
                let needed_gb = if may_be_full(tail) { self.needed_gb().await? } else { 0 };
                return Err(too_small(size, needed_gb).unwrap_or_else(|| failed(error)));
            }
        }
        file.set_permissions(Permissions::from_mode(0o600)).map_err(BuildError::io("close", &disk))?;
        Ok(Packed { disk, esp: self.area.host(&format!("{}/esp", self.folder)) })
    }

    /// The least disk size that holds the tree, in GiB, with room for the file system's own tables.
    async fn needed_gb(&self) -> Result<u64, BuildError> {
        let root = format!("{}/{}/root", enter::AREA, self.folder);
        let entry = self.entry("du", ["-s", "--block-size=1M", "--", &root].map(str::to_owned).into(), false);
        let command = self.area.command(self.host, &entry);
        let limits = Limits::cancelled_by(self.cancel);
        let output = self.host.runner.check(&command, None, &limits).await;
        let output = output.map_err(BuildError::tool("measure the tree"))?;
        let mib = output.lines().find_map(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(disk::smallest_gb(mib.unwrap_or_default()))
    }
}

/// Whether mke2fs stopped amid the tree's files. What it says does not tell why.
fn may_be_full(output: &str) -> bool {
    let full = ["Could not allocate", "while populating file system"];
    !says_no_space(output) && full.iter().any(|text| output.contains(text))
}

/// That a tree which needs so much does not fit a disk of `size` bytes, if so.
fn too_small(size: u64, needed_gb: u64) -> Option<BuildError> {
    let disk_gb = u32::try_from(size >> 30).unwrap_or(u32::MAX);
    (needed_gb > u64::from(disk_gb)).then_some(BuildError::TooSmall { disk_gb, needed_gb })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_that_would_fit_failed_for_another_reason() {
        for (size_gb, needed_gb, expected) in [
            (1, 2, Some("a disk of 1 GB is too small")),
            (10, 2, None),
            (2, 2, None),
            // Nothing was measured.
            (2, 0, None),
        ] {
            let told = too_small(size_gb << 30, needed_gb).map(|error| error.to_string());
            let fits = told.as_ref().map(|told| told.contains(expected.unwrap_or("\0")));
            assert_eq!(fits, expected.map(|_| true), "{size_gb} {needed_gb}: {told:?}");
        }
        let populating = "mke2fs: Operation not permitted while populating file system";
        for (output, expected) in [
            (populating, true),
            ("mke2fs: Could not allocate block in ext2 filesystem while populating file system", true),
            ("mke2fs: No space left on device while populating file system", false),
            ("mke2fs: invalid option", false),
        ] {
            assert_eq!(may_be_full(output), expected, "{output}");
        }
    }
}
