//! Files that Packer made on this computer.

use std::fs;
use std::io;
use std::path::Path;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::domain::{BackendError, Keeper, Made, Seen};

/// Builders and post-processors whose artifacts are files here. Source: the constants `BuilderId` in the sources of Packer
/// 1.10 and of its plugins of that time.
const LOCAL: [&str; 9] = [
    WRITES_ONE,
    "transcend.qemu",
    "mitchellh.virtualbox",
    "mitchellh.vmware",
    "mitchellh.post-processor.vagrant",
    "packer.post-processor.artifice",
    "packer.post-processor.checksum",
    "packer.post-processor.compress",
    "packer.post-processor.docker-save",
];
/// The builder that makes no folder of its own.
const WRITES_ONE: &str = "packer.file";

/// Looks after files.
#[derive(Debug)]
pub(super) struct Files;

#[async_trait]
impl Keeper for Files {
    fn keeps(&self, made: &Made) -> bool {
        LOCAL.contains(&made.builder_id.as_str()) && !made.files.is_empty()
    }

    async fn look(&self, made: &Made) -> Result<Option<Seen>, BackendError> {
        let mut size_bytes = 0;
        for path in &made.files {
            match fs::metadata(path) {
                Ok(meta) => size_bytes += meta.len(),
                Err(error) if is_gone(&error) => return Ok(None),
                Err(error) => {
                    return Err(BackendError::failed(format!("looking for {}", path.display()), error));
                }
            }
        }
        Ok(Some(Seen { artifact: None, size_bytes }))
    }

    async fn delete(&self, made: &Made, _: &CancellationToken) -> Result<Vec<String>, BackendError> {
        let (mut folders, mut left) = (Vec::new(), Vec::new());
        for path in &made.files {
            if fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir()) {
                folders.push(path);
                continue;
            }
            match fs::remove_file(path) {
                Err(error) if !is_gone(&error) => {
                    return Err(BackendError::failed(format!("deleting {}", path.display()), error));
                }
                _ => {}
            }
        }
        // Those in others first.
        folders.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
        for folder in folders {
            match fs::remove_dir(folder) {
                Err(error) if !is_gone(&error) => left.push(format!("{}: {error}", folder.display())),
                _ => {}
            }
        }
        if made.builder_id != WRITES_ONE {
            // Builders refuse a folder that is there already. One with other files in it stays.
            for folder in made.files.iter().filter_map(|path| path.parent()) {
                let _ = fs::remove_dir(folder);
            }
        }
        Ok(left)
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Takes in where the files are: Packer names them from where it runs.
pub(super) fn absolute(made: &mut Made, directory: &Path) {
    for file in &mut made.files {
        *file = directory.join(&*file).components().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_go_with_the_folder_that_their_builder_made() {
        let dir = tempfile::tempdir().unwrap();
        let never = CancellationToken::new();
        for (builder_id, folder_stays) in [("transcend.qemu", false), ("packer.file", true)] {
            fs::create_dir(dir.path().join("out")).unwrap();
            fs::write(dir.path().join("out/disk"), "12345").unwrap();
            let files = vec!["./out/disk".into()];
            let mut made = Made { builder_id: builder_id.into(), id: "VM".into(), files, managed: true };
            absolute(&mut made, dir.path());
            assert!(Files.keeps(&made));
            assert_eq!(Files.look(&made).await.unwrap().unwrap().size_bytes, 5);
            for _ in 0..2 {
                assert_eq!(Files.delete(&made, &never).await.unwrap(), Vec::<String>::new());
                assert_eq!(Files.look(&made).await.unwrap(), None);
            }
            assert_eq!(dir.path().join("out").exists(), folder_stays, "{builder_id}");
            let _ = fs::remove_dir(dir.path().join("out"));
        }
        assert!(!Files.keeps(&Made { builder_id: "packer.googlecompute".into(), ..Made::default() }));
    }

    /// What artifice names may be folders.
    #[tokio::test]
    async fn a_folder_goes_when_nothing_else_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let never = CancellationToken::new();
        fs::create_dir_all(out.join("deep")).unwrap();
        fs::create_dir(out.join("others")).unwrap();
        for name in ["a", "deep/b", "others/c"] {
            fs::write(out.join(name), "x").unwrap();
        }
        std::os::unix::fs::symlink("others", out.join("link")).unwrap();
        let builder_id = "packer.post-processor.artifice".to_owned();
        let files = ["", "a", "deep", "deep/b", "link"].map(|name| out.join(name)).to_vec();
        let mut made = Made { builder_id, id: "all".into(), files, managed: true };
        let left = Files.delete(&made, &never).await.unwrap();
        assert!(left.len() == 1 && left[0].contains("not empty"), "{left:?}");
        assert!(out.join("others/c").exists() && !out.join("deep").exists() && !out.join("link").exists());
        made.files.push(out.join("others/c"));
        made.files.push(out.join("others"));
        assert_eq!(Files.delete(&made, &never).await.unwrap(), Vec::<String>::new());
        assert!(!out.exists());
    }
}
