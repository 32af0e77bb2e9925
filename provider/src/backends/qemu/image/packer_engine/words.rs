//! What QEMU itself says when it does not start: Packer has it in its debug log only, which has everything else, too. So
//! Packer is given a script that starts QEMU, and keeps its words.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;

use super::BuildError;
use crate::packer::Folder;
use crate::process::private;
use crate::ssh;

const SCRIPT: &str = "emulator";
const WORDS: &str = "emulator.log";
/// How much of it is shown.
const LONGEST: usize = 4096;

/// The script in the place of `program`; none where no program in the folder can be run.
pub(super) fn kept(folder: &Folder, program: &Path) -> Result<Option<PathBuf>, BuildError> {
    let (script, words) = (folder.file(SCRIPT), folder.file(WORDS));
    let (Some(program), Some(log)) = (program.to_str(), words.to_str()) else { return Ok(None) };
    private::write(&words, b"").map_err(BuildError::io("write", &words))?;
    if rustix::fs::statvfs(&words).is_ok_and(|disk| disk.f_flag.contains(StatVfsMountFlags::NOEXEC)) {
        return Ok(None);
    }
    let text = format!("#!/bin/sh\nexec {} \"$@\" 2>{}\n", ssh::quote(program), ssh::quote(log));
    private::write(&script, text.as_bytes()).map_err(BuildError::io("write", &script))?;
    fs::set_permissions(&script, Permissions::from_mode(0o700)).map_err(BuildError::io("write", &script))?;
    Ok(Some(script))
}

/// The last words; empty when there are none.
pub(super) fn of(folder: &Folder) -> String {
    let text = fs::read(folder.file(WORDS)).unwrap_or_default();
    String::from_utf8_lossy(&text[text.len().saturating_sub(LONGEST)..]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn words_are_kept_and_all_else_is_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::create(&dir.path().join("it's")).unwrap();
        let script = kept(&folder, Path::new("sh")).unwrap().unwrap();
        assert_eq!(of(&folder), "");
        let ran =
            Command::new(script).args(["-c", "echo \"$1\"; echo no >&2; exit 3", "sh", "a  b"]).output();
        let ran = ran.unwrap();
        assert_eq!((ran.stdout.as_slice(), ran.status.code()), (&b"a  b\n"[..], Some(3)));
        assert_eq!(of(&folder), "no");
    }
}
