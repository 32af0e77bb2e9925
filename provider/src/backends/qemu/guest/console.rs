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
/// How often a running provider looks at the size.
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
        let newest = end(&mut file, size)?;
        file.set_len(0)?;
        io::Write::write_all(&mut file, &newest)?;
    }
    Ok(())
}

/// The last lines, without control characters; empty when there is nothing.
pub fn tail(dir: &Path) -> String {
    let read = File::open(path(dir)).and_then(|mut file| {
        let size = file.metadata()?.len();
        end(&mut file, size)
    });
    tail::of_console(&String::from_utf8_lossy(&read.unwrap_or_default()))
}

fn end(file: &mut File, size: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(size.saturating_sub(KEPT)))?;
    let mut bytes = Vec::new();
    file.take(KEPT).read_to_end(&mut bytes)?;
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
}
