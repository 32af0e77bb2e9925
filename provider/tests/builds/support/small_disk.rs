//! A disk that has as much space as a test wants, and no more.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::image::run;

/// More than anything here needs, in KiB.
const PLENTY: u64 = 4 << 20;

/// A disk of its own for a test's length.
pub(crate) struct Disk(pub(crate) PathBuf);

impl Disk {
    pub(crate) fn mount(dir: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        run("mount", &["-t", "tmpfs", "-o", "size=64m,mode=0755", "none", dir.to_str().unwrap()]);
        // A disk of nothing would have no limit.
        fs::write(dir.join("some"), "x").unwrap();
        Self(dir.to_owned())
    }

    /// Leaves so many KiB.
    pub(crate) fn leave(&self, kib: u64) {
        let now = rustix::fs::statvfs(&self.0).unwrap();
        self.limit(&format!("size={}k", (now.f_blocks - now.f_bfree) * now.f_frsize / 1024 + kib));
    }

    /// Leaves room for so many new files and folders.
    pub(crate) fn leave_files(&self, count: u64) {
        let now = rustix::fs::statvfs(&self.0).unwrap();
        self.limit(&format!("size={PLENTY}k,nr_inodes={}", now.f_files - now.f_ffree + count));
    }

    pub(crate) fn relieve(&self) {
        self.limit(&format!("size={PLENTY}k,nr_inodes=1000000"));
    }

    fn limit(&self, options: &str) {
        run("mount", &["-o", &format!("remount,{options}"), self.0.to_str().unwrap()]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// How full a disk is, once after the other: by space, then by files. A point is passed when something succeeds there.
pub(crate) struct Points {
    kib: u64,
    files: u64,
}

impl Points {
    pub(crate) fn new() -> Self {
        Self { kib: 0, files: 0 }
    }

    pub(crate) fn space(&mut self, disk: &Disk) -> String {
        disk.relieve();
        disk.leave(self.kib);
        let point = format!("{} KiB", self.kib);
        self.kib += 4.max(self.kib / 8 * 4);
        point
    }

    pub(crate) fn files(&mut self, disk: &Disk) -> String {
        disk.relieve();
        disk.leave_files(self.files);
        self.files += 1;
        format!("{} files", self.files - 1)
    }
}
