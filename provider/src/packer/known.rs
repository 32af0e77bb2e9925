//! Versions of Packers that were asked before: a large program takes a while to say who it is.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::Version;
use crate::process::private;

/// How every program begins that is no script.
const ELF: &[u8] = b"\x7fELF";

/// A program, and where its version is remembered. Only one that is Packer itself: a script, or a link to a manager of
/// versions, may start another one today than yesterday.
#[derive(Debug)]
pub(super) struct Known {
    path: PathBuf,
    program: Program,
}

/// What tells one program from another.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Program {
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    program: Program,
    version: String,
}

impl Known {
    /// The program, if its version can be remembered in this folder of caches.
    pub(super) fn of(cache_dir: &Path, program: &Path) -> Option<Self> {
        let path = fs::canonicalize(program).ok()?;
        let mut begin = [0; ELF.len()];
        let mut file = File::open(&path).ok()?;
        file.read_exact(&mut begin).ok()?;
        let is_packer = path.file_name()?.as_bytes().starts_with(b"packer");
        if !is_packer || begin != ELF {
            return None;
        }
        let meta = file.metadata().ok()?;
        let name = hex::encode(&digest(&SHA256, path.as_os_str().as_bytes()).as_ref()[..8]);
        let program = Program {
            path,
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        };
        Some(Self { path: cache_dir.join("packer-versions").join(name).with_extension("json"), program })
    }

    /// What it said when it was asked. What cannot be read counts as nothing.
    pub(super) fn version(&self) -> Option<Version> {
        let answer: Answer = serde_json::from_slice(&fs::read(&self.path).ok()?).ok()?;
        (answer.program == self.program).then(|| Version::of_text(&answer.version))?
    }

    /// Remembers what it said. Where that cannot be, it is asked again.
    pub(super) fn remember(self, version: Version) {
        let Self { path, program } = self;
        let written = serde_json::to_vec(&Answer { program, version: version.to_string() });
        let folder = path.parent().unwrap_or(&path);
        let kept = private::create_dir(folder)
            .and_then(|()| private::write(&path, &written.map_err(std::io::Error::other)?));
        if let Err(error) = kept {
            tracing::debug!(file = %path.display(), %error, "the version of Packer is not remembered");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packer_itself_is_remembered_and_damage_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, program) = (dir.path().join("cache"), dir.path().join("packer"));
        assert!(Known::of(&cache, &program).is_none());
        fs::write(&program, "#!/bin/sh\n").unwrap();
        assert!(Known::of(&cache, &program).is_none(), "a script");
        fs::remove_file(&program).unwrap();
        std::os::unix::fs::symlink("/bin/true", &program).unwrap();
        assert!(Known::of(&cache, &program).is_none(), "a link to a manager of versions");
        fs::remove_file(&program).unwrap();
        fs::copy("/bin/true", &program).unwrap();
        let known = || Known::of(&cache, &program).unwrap();
        assert_eq!(known().version(), None);
        known().remember(Version::new(1, 10, 0));
        assert_eq!(known().version(), Some(Version::new(1, 10, 0)));
        for damage in ["", "{", "{\"program\":1}", "\u{0}\u{0}"] {
            fs::write(known().path, damage).unwrap();
            assert_eq!(known().version(), None, "{damage}");
        }
    }
}
