//! Whether a disk is full: what a program says, and what there is.

use std::path::Path;

use super::ProcessError;

/// Whether a program's output says that a disk is full, in the C library's words or in Go's.
pub fn says_no_space(output: &str) -> bool {
    let output = output.to_ascii_lowercase();
    output.contains("no space left on device") || output.contains("disk quota exceeded")
}

/// Whether output says so, and one of these folders' disks is full: what a user's program says may be of another one.
/// Returns that folder.
pub fn full_disk<'a>(output: &str, folders: &[&'a Path]) -> Option<&'a Path> {
    folders.iter().copied().find(|folder| says_no_space(output) && is_full(folder))
}

/// Whether the disk of a folder is as good as full: programs remove some of what they could not write as a whole.
fn is_full(folder: &Path) -> bool {
    rustix::fs::statvfs(folder).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < 1 << 20)
}

impl ProcessError {
    /// Whether a program that we know failed because it found no space. Not each says so of all that it writes, so it counts,
    /// too, that the disk of the folder into which it wrote is full.
    pub fn lacks_space(&self, folder: Option<&Path>) -> bool {
        matches!(self, Self::Failed { tail, .. } if says_no_space(tail) || folder.is_some_and(is_full))
    }
}
