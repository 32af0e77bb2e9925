//! What Packer's `manifest` post-processor writes: the artifacts of its runs, in JSON.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::PackerError;

/// More than any manifest of a build has.
const LARGEST: u64 = 16 * 1024 * 1024;

/// A manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Manifest {
    /// Artifacts, also of earlier runs that wrote into the same file.
    #[serde(default)]
    pub builds: Vec<ManifestBuild>,
    /// The latest run.
    #[serde(default)]
    pub last_run_uuid: String,
}

/// One artifact.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ManifestBuild {
    /// The build's name.
    pub name: String,
    /// `qemu`, `amazon-ebs`, …
    pub builder_type: String,
    /// Its id, in the builder's own form.
    pub artifact_id: String,
    /// Its files on this computer.
    #[serde(default)]
    pub files: Option<Vec<ManifestFile>>,
    /// The run that made it.
    pub packer_run_uuid: String,
}

/// A file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ManifestFile {
    /// Its path, as Packer saw it.
    pub name: String,
    /// In bytes.
    #[serde(default)]
    pub size: u64,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// When it is not there, is none, or is larger than any.
    pub fn read(path: &Path) -> Result<Self, PackerError> {
        let file = File::open(path).map_err(PackerError::io("open", path))?;
        let mut text = Vec::new();
        file.take(LARGEST).read_to_end(&mut text).map_err(PackerError::io("read", path))?;
        serde_json::from_slice(&text)
            .map_err(|source| PackerError::Manifest { path: path.to_owned(), source })
    }

    /// The artifacts of the latest run.
    pub fn latest(&self) -> impl Iterator<Item = &ManifestBuild> {
        self.builds.iter().filter(|build| build.packer_run_uuid == self.last_run_uuid)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &[u8]) -> Result<Manifest, PackerError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("manifest.json");
        std::fs::write(&path, text).unwrap();
        Manifest::read(&path)
    }

    #[test]
    fn the_latest_runs_artifacts() {
        let text = br#"{ "builds": [
            { "name": "old", "builder_type": "null", "build_time": 1, "files": null, "artifact_id": "Null",
              "packer_run_uuid": "1", "custom_data": null },
            { "name": "image", "builder_type": "qemu", "build_time": 2,
              "files": [{ "name": "out/disk.raw", "size": 16 }], "artifact_id": "VM", "packer_run_uuid": "2",
              "custom_data": { "a": "b" } } ], "last_run_uuid": "2" }"#;
        let manifest = read(text).unwrap();
        let latest: Vec<_> = manifest.latest().collect();
        assert_eq!(latest.len(), 1);
        assert_eq!(latest[0].artifact_id, "VM");
        let file = ManifestFile { name: "out/disk.raw".into(), size: 16 };
        assert_eq!(latest[0].files.as_deref(), Some(&[file][..]));
        for text in [&b""[..], b"{\"builds\": 3}", b"{\"builds\": [{}]}", b"\xff"] {
            assert!(matches!(read(text), Err(PackerError::Manifest { .. })), "{text:?}");
        }
        assert!(matches!(Manifest::read(Path::new("/none")), Err(PackerError::Io { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_bytes_have_an_answer(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }
}
