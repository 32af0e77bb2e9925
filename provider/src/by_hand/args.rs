//! What stands after a command: words, and values after some of them.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::slice::Iter;

/// What is not read yet. `--data-dir DIR`, which means the same to every command, is read here.
pub(super) struct Args<'a> {
    command: &'static str,
    left: Iter<'a, OsString>,
    data_dir: Option<&'a Path>,
}

impl<'a> Args<'a> {
    pub(super) fn of(command: &'static str, all: &'a [OsString]) -> Self {
        Self { command, left: all.iter(), data_dir: None }
    }

    /// The next word.
    pub(super) fn take(&mut self) -> Result<Option<&'a OsStr>, String> {
        while let Some(word) = self.left.next() {
            if word != "--data-dir" {
                return Ok(Some(word));
            }
            let dir = Path::new(self.value("--data-dir needs a folder")?);
            if self.data_dir.replace(dir).is_some() {
                return Err("--data-dir names one folder".to_owned());
            }
        }
        Ok(None)
    }

    /// What stands after the word that was taken. One that is forgotten is not made of the next word: `missing` is said.
    pub(super) fn value(&mut self, missing: &str) -> Result<&'a OsStr, String> {
        let value = self.left.next().filter(|value| !value.as_encoded_bytes().starts_with(b"--"));
        value.map(OsString::as_os_str).ok_or_else(|| missing.to_owned())
    }

    /// The same, as text.
    pub(super) fn text(&mut self, missing: &str) -> Result<&'a str, String> {
        self.value(missing)?.to_str().ok_or_else(|| missing.to_owned())
    }

    /// What is said of a word that nobody knows.
    pub(super) fn unknown(&self, word: &OsStr) -> String {
        format!("{word:?} means nothing to `{}`", self.command)
    }

    /// The folder that they name, when all are taken.
    pub(super) fn data_dir(&self) -> Option<&'a Path> {
        self.data_dir
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_named_once_and_is_no_option() {
        let read = |all: &[&str]| {
            let all: Vec<OsString> = all.iter().map(OsString::from).collect();
            let mut args = Args::of("doctor", &all);
            let mut words = Vec::new();
            while let Some(word) = args.take()? {
                words.push(word.to_owned());
            }
            Ok::<_, String>((words, args.data_dir().map(Path::to_owned)))
        };
        assert_eq!(read(&["--data-dir", "/d", "x"]), Ok((vec!["x".into()], Some("/d".into()))));
        assert_eq!(read(&["x"]), Ok((vec!["x".into()], None)));
        for (wrong, told) in [
            (&["--data-dir"][..], "needs a folder"),
            (&["--data-dir", "--dry-run"], "needs a folder"),
            (&["--data-dir", "/a", "--data-dir", "/b"], "one folder"),
        ] {
            assert!(read(wrong).unwrap_err().contains(told), "{wrong:?}");
        }
    }
}
