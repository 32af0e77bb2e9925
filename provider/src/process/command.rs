//! A program, its arguments and its whole environment, as a value that a test can compare.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What is to be run. Nothing of our own environment reaches the program but what [`Command::new`] lets
/// through, so that neither credentials nor a user's settings leak into a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// A path, or a name to be looked up in `PATH`.
    pub program: PathBuf,
    /// Each argument as the program will see it: no shell reads it.
    pub args: Vec<OsString>,
    /// The environment beside what is passed through.
    pub env: BTreeMap<OsString, OsString>,
    /// The folder to run in.
    pub cwd: Option<PathBuf>,
}

/// Variables that say how to reach a package mirror through a proxy.
pub(super) const PROXIES: [&str; 6] =
    ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];

/// Variables of our own environment that a child may see: where programs are, where to keep temporary files, and proxies.
pub(super) fn passed() -> impl Iterator<Item = &'static str> {
    ["HOME", "TMPDIR"].into_iter().chain(PROXIES)
}

/// Variables that name the certificates by which servers are known: a proxy that looks into connections has its own. For what
/// speaks with a cloud; a build's own programs see others' files.
pub const TRUSTED: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

impl Command {
    /// A command without arguments, in a plain `C.UTF-8` locale.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::from([("LC_ALL".into(), "C.UTF-8".into())]),
            cwd: None,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets one variable of the environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Sets the folder to run in.
    #[must_use]
    pub fn cwd(mut self, dir: impl AsRef<Path>) -> Self {
        self.cwd = Some(dir.as_ref().to_owned());
        self
    }

    /// The program's name without its folder, for messages.
    pub fn name(&self) -> String {
        self.program.file_name().unwrap_or(self.program.as_os_str()).to_string_lossy().into_owned()
    }
}
