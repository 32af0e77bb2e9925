//! The folder that Packer is given: a template, its values, and room for temporary files. It goes when the build does.

use std::fs;
use std::path::{Path, PathBuf};

use super::{PackerError, Variables, variables};
use crate::process::private;

/// The template's file name.
const TEMPLATE: &str = "image.pkr.hcl";

/// A private folder (0700) with private files (0600), removed when this value goes.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
}

impl Folder {
    /// Makes the folder, which must not be there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(dir: &Path) -> Result<Self, PackerError> {
        if dir.exists() {
            let there = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
            return Err(PackerError::io("create", dir)(there));
        }
        let folder = Self { dir: dir.to_owned() };
        for made in [folder.template(), folder.tmp()] {
            private::create_dir(&made).map_err(PackerError::io("create", &made))?;
        }
        Ok(folder)
    }

    /// Writes the template and its values.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&self, template: &str, variables: &Variables) -> Result<(), PackerError> {
        for (name, content) in [(TEMPLATE, template), (variables::FILE, &variables.values().to_string())] {
            let path = self.template().join(name);
            private::write(&path, content.as_bytes()).map_err(PackerError::io("write", &path))?;
        }
        Ok(())
    }

    /// What Packer is pointed at.
    pub fn template(&self) -> PathBuf {
        self.dir.join("template")
    }

    /// Packer's `TMPDIR`.
    pub fn tmp(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// A file beside them.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!(folder = %self.dir.display(), %error, "what Packer was given cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn all_is_private_and_goes() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("packer");
        let folder = Folder::create(&dir).unwrap();
        assert!(Folder::create(&dir).is_err());
        let mut variables = Variables::default();
        variables.set("s", "hunter22");
        folder.write("# a template\n", &variables).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for made in [&dir, &folder.template(), &folder.tmp()] {
            assert_eq!(mode(made), 0o700, "{}", made.display());
        }
        let files: Vec<_> =
            fs::read_dir(folder.template()).unwrap().map(|file| file.unwrap().path()).collect();
        assert_eq!(files.len(), 2);
        for file in files {
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
        drop(folder);
        assert!(!dir.exists());
    }
}
