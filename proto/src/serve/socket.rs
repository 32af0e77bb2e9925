//! The Unix socket that the host connects to, in a directory that only its owner may enter.

use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// What a socket's address holds, less the byte that ends it. The same on Linux; macOS has 103.
const MAX_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
const NAME: &str = "s";

/// Where the host wants the socket.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SocketOptions {
    /// The directory; the system's temporary one if not given.
    pub(super) dir: Option<PathBuf>,
    /// A group, by name or number, that may connect, too.
    pub(super) group: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    #[error("cannot create a directory for the plugin's socket in {dir}")]
    Dir { dir: PathBuf, source: std::io::Error },
    #[error(
        "the path of the plugin's socket, {path}, is longer than the {MAX_PATH} bytes that the system allows: \
         set PLUGIN_UNIX_SOCKET_DIR or TMPDIR to a shorter path"
    )]
    TooLong { path: PathBuf },
    #[error("cannot listen on the plugin's socket {path}")]
    Bind { path: PathBuf, source: std::io::Error },
    #[error("there is no group `{0}`, which PLUGIN_UNIX_SOCKET_GROUP names")]
    NoGroup(String),
    #[error("cannot give the plugin's socket to the group `{group}`")]
    Group { group: String, source: std::io::Error },
}

/// A listening socket. Dropping it removes it with its directory.
#[derive(Debug)]
pub(super) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Removed when dropped.
    dir: TempDir,
}

impl Socket {
    pub(super) fn bind(options: &SocketOptions) -> Result<Self, SocketError> {
        let dir = match &options.dir {
            Some(dir) => private_dir(dir)?,
            None => {
                let dir = private_dir(&std::env::temp_dir())?;
                // A long TMPDIR, as on macOS or in CI, is no reason to fail.
                if fits(&dir.path().join(NAME)) { dir } else { private_dir(Path::new("/tmp"))? }
            }
        };
        let path = dir.path().join(NAME);
        if !fits(&path) {
            return Err(SocketError::TooLong { path });
        }
        let listener = UnixListener::bind(&path)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|source| SocketError::Bind { path: path.clone(), source })?;
        if let Some(group) = &options.group {
            let gid = group_id(group).ok_or_else(|| SocketError::NoGroup(group.clone()))?;
            share(dir.path(), gid, 0o710)
                .and_then(|()| share(&path, gid, 0o660))
                .map_err(|source| SocketError::Group { group: group.clone(), source })?;
        }
        Ok(Self { listener, path, dir })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Within a runtime: the listener, and what has to live as long as it.
    pub(super) fn into_parts(self) -> Result<(tokio::net::UnixListener, TempDir), SocketError> {
        let Self { listener, path, dir } = self;
        let listener = tokio::net::UnixListener::from_std(listener);
        Ok((listener.map_err(|source| SocketError::Bind { path, source })?, dir))
    }
}

fn private_dir(parent: &Path) -> Result<TempDir, SocketError> {
    tempfile::Builder::new()
        .prefix("plugin")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(parent)
        .map_err(|source| SocketError::Dir { dir: parent.to_owned(), source })
}

fn fits(path: &Path) -> bool {
    path.as_os_str().as_bytes().len() <= MAX_PATH
}

fn share(path: &Path, gid: u32, mode: u32) -> std::io::Result<()> {
    chown(path, None, Some(gid))?;
    std::fs::set_permissions(path, Permissions::from_mode(mode))
}

fn group_id(group: &str) -> Option<u32> {
    let by_name = || {
        let groups = std::fs::read_to_string("/etc/group").ok()?;
        let mut lines = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
        lines.find(|fields| fields.first() == Some(&group))?.get(2)?.parse().ok()
    };
    group.parse().ok().or_else(by_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn only_its_owner_may_enter() {
        let socket = Socket::bind(&SocketOptions::default()).unwrap();
        let dir = socket.path().parent().unwrap().to_owned();
        assert_eq!(mode(&dir), 0o700);
        drop(socket);
        assert!(!dir.exists(), "the directory is left behind");
    }

    #[test]
    fn the_given_directory_and_group_are_used() {
        let parent = tempfile::tempdir().unwrap();
        let gid = rustix::process::getgid().as_raw();
        let options = SocketOptions { dir: Some(parent.path().to_owned()), group: Some(gid.to_string()) };
        let socket = Socket::bind(&options).unwrap();
        assert!(socket.path().starts_with(parent.path()));
        assert_eq!(mode(socket.path()), 0o660);
        assert_eq!(mode(socket.path().parent().unwrap()), 0o710);
    }

    #[test]
    fn a_path_that_is_too_long_is_told() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("x".repeat(120));
        std::fs::create_dir(&dir).unwrap();
        let error = Socket::bind(&SocketOptions { dir: Some(dir), group: None }).unwrap_err();
        assert!(matches!(error, SocketError::TooLong { .. }), "{error}");
    }

    #[test]
    fn a_group_that_does_not_exist_is_told() {
        let options = SocketOptions { dir: None, group: Some("no-such-group".to_owned()) };
        assert!(matches!(Socket::bind(&options).unwrap_err(), SocketError::NoGroup(_)));
    }
}
