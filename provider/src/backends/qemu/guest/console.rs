//! The file that a guest's serial line is written to: bounded, and quoted in errors.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::argv;
use crate::process::tail;

/// How large the file may grow before its older part is dropped.
const LARGEST: u64 = 4 * 1024 * 1024;
/// How much is kept then, and how much is read for an error.
const KEPT: u64 = 256 * 1024;
/// The last line of Linux when its kernel gives up and does not restart (`panic()` in kernel/panic.c).
const PANIC: &str = "---[ end Kernel panic - not syncing";
/// How often a running provider looks at the file.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// Where the console of the guest with this folder is written to.
pub fn path(dir: &Path) -> PathBuf {
    dir.join(argv::CONSOLE)
}

/// Makes the file, for our eyes only, before QEMU would make it for everybody's. What an earlier run printed
/// stays.
pub(super) fn create(dir: &Path) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path(dir))?;
    bound(dir)
}

/// Drops the older part of a file that has grown too large. QEMU appends, so it goes on at the new end; what
/// it writes in this moment may be lost.
///
/// # Errors
/// When the file cannot be read or written.
pub fn bound(dir: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).open(path(dir))?;
    let size = file.metadata()?.len();
    if size > LARGEST {
        let newest = end(&mut file, size, KEPT)?;
        file.set_len(0)?;
        io::Write::write_all(&mut file, &newest)?;
    }
    Ok(())
}

/// The file's size in bytes; 0 when there is none.
pub(super) fn size(dir: &Path) -> u64 {
    path(dir).metadata().map_or(0, |metadata| metadata.len())
}

/// Whether a kernel has given up, in what was printed since the file had `from` bytes. No where an older part was dropped.
pub(super) fn tells_of_panic(dir: &Path, from: u64) -> bool {
    read_end(dir, |size| size.saturating_sub(from)).contains(PANIC)
}

/// The last lines, without control characters; empty when there is nothing.
pub fn tail(dir: &Path) -> String {
    tail::of_console(&read_end(dir, |size| size))
}

/// As much of the file's end as `wanted` says of its size, and no more than is kept. Empty when it cannot be read.
fn read_end(dir: &Path, wanted: impl FnOnce(u64) -> u64) -> String {
    let read = File::open(path(dir)).and_then(|mut file| {
        let size = file.metadata()?.len();
        end(&mut file, size, wanted(size).min(KEPT))
    });
    String::from_utf8_lossy(&read.unwrap_or_default()).into_owned()
}

fn end(file: &mut File, size: u64, wanted: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(size.saturating_sub(wanted)))?;
    let mut bytes = Vec::new();
    file.take(wanted).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_chatty_guest_does_not_fill_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        create(dir.path()).unwrap();
        let mut qemu = OpenOptions::new().append(true).open(path(dir.path())).unwrap();
        qemu.write_all(&vec![b'x'; usize::try_from(LARGEST).unwrap() + 1]).unwrap();
        qemu.write_all(b"\nnewest\n").unwrap();
        bound(dir.path()).unwrap();
        qemu.write_all(b"later\n").unwrap();
        assert_eq!(std::fs::metadata(path(dir.path())).unwrap().len(), KEPT + 6);
        assert!(tail(dir.path()).ends_with("newest\nlater"));
    }

    #[test]
    fn a_panic_is_that_of_this_start() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!tells_of_panic(dir.path(), size(dir.path())), "without a file");
        let panic = "[    1.2] ---[ end Kernel panic - not syncing: No working init found. ]---\r\n";
        let restarts = "[    1.2] Kernel panic - not syncing: x\r\n[    1.2] Rebooting in 5 seconds..\r\n";
        for (before, printed, told) in [
            ("", "login: ", false),
            ("", panic, true),
            ("", restarts, false),
            (panic, "", false),
            (panic, "login: ", false),
            ("login: ", &panic.repeat(2), true),
        ] {
            std::fs::write(path(dir.path()), before).unwrap();
            let from = size(dir.path());
            std::fs::write(path(dir.path()), format!("{before}{printed}")).unwrap();
            assert_eq!(tells_of_panic(dir.path(), from), told, "{before:?}, then {printed:?}");
        }
        std::fs::write(path(dir.path()), panic).unwrap();
        assert!(!tells_of_panic(dir.path(), LARGEST), "of another start, whose older part was dropped");
    }
}
