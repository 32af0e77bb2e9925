//! Finds the user's Packer and asks it who it is.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::known::Known;
use super::{LocateError, Version, command};
use crate::process::{Limits, ProcessError, Runner, programs_in, search_path};

/// How long `packer version` may take: a large binary from a cold disk takes seconds, on a busy computer many.
const ANSWER: Duration = Duration::from_secs(60);

/// Variables of ours that Packer may see beside those of every program: where its plugins and its own settings are, with
/// which token it asks GitHub for plugins, and whom it trusts for that.
const PASSED: [&str; 6] = [
    "PACKER_CONFIG_DIR",
    "PACKER_PLUGIN_PATH",
    "XDG_CONFIG_HOME",
    "PACKER_GITHUB_API_TOKEN",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// What the user says of Packer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The program; `$PACKER_BIN`, then `packer` in `PATH`, when not given.
    pub binary: Option<PathBuf>,
    /// Where plugins are, instead of Packer's own folder.
    pub plugin_dir: Option<PathBuf>,
    /// Whether `packer init` is left out: all plugins are there.
    pub skip_init: bool,
    /// Where versions are remembered, if they are.
    pub cache_dir: Option<PathBuf>,
}

/// A Packer that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packer {
    /// Where it is.
    pub program: PathBuf,
    /// Its version.
    pub version: Version,
    /// What it sees of our environment, and where its plugins are.
    pub env: BTreeMap<OsString, OsString>,
    /// Whether `packer init` is left out.
    pub skip_init: bool,
}

impl Settings {
    /// Whether plugins are the user's own business, in whatever versions that work.
    pub fn own_plugins(&self) -> bool {
        self.plugin_dir.is_some() || self.skip_init
    }

    /// Finds Packer. Of several programs named `packer` in `PATH` the first that is HashiCorp's is taken.
    ///
    /// # Errors
    /// When there is none, or it cannot be used.
    pub async fn locate(&self, runner: &Runner, limits: &Limits) -> Result<Packer, LocateError> {
        let variable = std::env::var_os("PACKER_BIN").filter(|value| !value.is_empty());
        let candidates = self.candidates(variable, &search_path());
        let mut stranger = None;
        for program in &candidates {
            match self.version(program, runner, limits).await {
                Ok(version) => {
                    return Ok(Packer {
                        program: program.clone(),
                        version,
                        env: self.env(|name| std::env::var_os(name)),
                        skip_init: self.skip_init,
                    });
                }
                Err(error @ LocateError::NotPacker { .. }) => stranger = stranger.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        Err(stranger.unwrap_or(LocateError::Missing { looked_for: "packer".to_owned() }))
    }

    /// The version, from memory as long as the program is the same.
    async fn version(
        &self,
        program: &Path,
        runner: &Runner,
        limits: &Limits,
    ) -> Result<Version, LocateError> {
        let known = self.cache_dir.as_deref().and_then(|dir| Known::of(dir, program));
        if let Some(version) = known.as_ref().and_then(Known::version) {
            return Ok(version);
        }
        let version = ask(program.to_owned(), runner, limits).await?;
        if let Some(known) = known {
            known.remember(version);
        }
        Ok(version)
    }

    /// What may be Packer, the likeliest first.
    fn candidates(&self, variable: Option<OsString>, path: &OsStr) -> Vec<PathBuf> {
        if let Some(named) = self.binary.clone().or_else(|| variable.map(PathBuf::from)) {
            return vec![absolute(named)];
        }
        let mut found: Vec<PathBuf> = Vec::new();
        for program in programs_in(path, "packer").into_iter().map(absolute) {
            if !found.contains(&program) {
                found.push(program);
            }
        }
        found
    }

    fn env(&self, ours: impl Fn(&str) -> Option<OsString>) -> BTreeMap<OsString, OsString> {
        let passed = PASSED.iter().filter_map(|name| Some((OsString::from(name), ours(name)?)));
        let mut env: BTreeMap<_, _> = passed.collect();
        if let Some(dir) = env.get_mut(OsStr::new("PACKER_PLUGIN_PATH")) {
            *dir = absolute(PathBuf::from(&*dir)).into();
        }
        if let Some(dir) = &self.plugin_dir {
            env.insert("PACKER_PLUGIN_PATH".into(), dir.into());
        }
        env
    }
}

/// Packer runs in another folder than we do. A bare name is looked for in `PATH`.
fn absolute(path: PathBuf) -> PathBuf {
    if path.components().count() < 2 { path } else { std::path::absolute(&path).unwrap_or(path) }
}

async fn ask(program: PathBuf, runner: &Runner, limits: &Limits) -> Result<Version, LocateError> {
    let limit = limits.timeout.unwrap_or(ANSWER);
    let limits = Limits { cancel: limits.cancel.clone(), timeout: Some(limit) };
    let finished = match runner.run(&command::version(&program), None, &limits).await {
        Ok(finished) => finished,
        Err(ProcessError::Timeout { limit, .. }) => return Err(LocateError::Hung { program, limit }),
        Err(ProcessError::Missing { .. }) => {
            return Err(LocateError::Missing { looked_for: program.display().to_string() });
        }
        Err(source) => return Err(LocateError::Process { program, source }),
    };
    if finished.code > 128 {
        return Err(LocateError::Killed { program, signal: finished.code - 128 });
    }
    match Version::of_output(&finished.output) {
        Some(found) if found < Version::OLDEST => Err(LocateError::TooOld { program, found }),
        Some(version) => Ok(version),
        None => {
            let first = finished.output.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
            let said = first.chars().take(80).collect();
            Err(LocateError::NotPacker { program, said })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_wins_over_the_environment_over_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        for folder in [&one, &two] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("packer"), "").unwrap();
        }
        let path = std::env::join_paths([&one, &dir.path().to_owned(), &two, &one]).unwrap();
        let none = Settings::default();
        let named = Settings { binary: Some("/opt/packer".into()), ..Settings::default() };
        let relative = Settings { binary: Some("bin/packer".into()), ..Settings::default() };
        assert_eq!(relative.candidates(None, &path), [std::env::current_dir().unwrap().join("bin/packer")]);
        let variable = || Some(OsString::from("/env/packer"));
        assert_eq!(named.candidates(variable(), &path), [PathBuf::from("/opt/packer")]);
        assert_eq!(none.candidates(variable(), &path), [PathBuf::from("/env/packer")]);
        assert_eq!(none.candidates(None, &path), [one.join("packer"), two.join("packer")]);
        assert_eq!(none.candidates(None, OsStr::new("")), Vec::<PathBuf>::new());
    }

    /// A program that answers nothing of Packer's counts as what is remembered of it, as long as it is the same.
    #[tokio::test]
    async fn a_program_that_is_known_is_not_asked() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("packer");
        std::fs::copy("/bin/true", &program).unwrap();
        let cache = dir.path().join("cache");
        let settings =
            Settings { binary: Some(program.clone()), cache_dir: Some(cache.clone()), ..Settings::default() };
        // The supervisor is none, so that nothing can be asked.
        let (runner, limits) = (Runner::new("/bin/false"), Limits::cancelled_by(&Default::default()));
        let locate = async || settings.locate(&runner, &limits).await.map(|packer| packer.version).ok();
        assert_eq!(locate().await, None);
        Known::of(&cache, &program).unwrap().remember(Version::new(1, 8, 3));
        assert_eq!(locate().await, Some(Version::new(1, 8, 3)));
        let file = std::fs::File::options().write(true).open(&program).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        drop(file);
        assert_eq!(locate().await, None, "another program");
    }

    #[test]
    fn a_plugin_folder_wins_over_the_environments() {
        let ours = |name: &str| (name == "PACKER_PLUGIN_PATH").then(|| OsString::from("/theirs"));
        let settings = Settings { plugin_dir: Some("/mine".into()), ..Settings::default() };
        assert_eq!(settings.env(ours)[OsStr::new("PACKER_PLUGIN_PATH")], "/mine");
        assert_eq!(Settings::default().env(ours)[OsStr::new("PACKER_PLUGIN_PATH")], "/theirs");
        assert!(Settings::default().env(|_| None).is_empty());
    }
}
