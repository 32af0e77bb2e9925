//! The host key of one guest: recorded when first seen, and from then on the only one that is accepted.

use std::fs;
use std::io;
use std::path::PathBuf;

use russh::keys::PublicKey;

use crate::process::private;

/// A record in OpenSSH's `known_hosts` format with a name of its own, so that a changed port does not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownHost {
    /// The file; it holds this guest's key alone.
    pub path: PathBuf,
    /// The name under which the key stands; for ssh's option `HostKeyAlias`.
    pub alias: String,
}

impl KnownHost {
    /// Whether this is the guest's key. The first one seen is recorded (0600).
    ///
    /// # Errors
    /// When the record cannot be read or written.
    pub(super) fn accept(&self, key: &PublicKey) -> io::Result<bool> {
        let offered = key.to_openssh().map_err(io::Error::other)?;
        let offered = key_fields(&offered);
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(text.lines().any(|line| {
                line.split_once(' ')
                    .is_some_and(|(name, key)| name == self.alias && key_fields(key) == offered)
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (kind, key) = offered;
                let line = format!("{} {kind} {key}\n", self.alias);
                private::write(&self.path, line.as_bytes()).map(|()| true)
            }
            Err(error) => Err(error),
        }
    }
}

/// The kind and the key itself, without a comment.
fn key_fields(line: &str) -> (&str, &str) {
    let mut fields = line.split_whitespace();
    (fields.next().unwrap_or_default(), fields.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use russh::keys::{Algorithm, PrivateKey};

    use super::*;

    #[test]
    fn the_first_key_is_the_only_one() {
        let dir = tempfile::tempdir().unwrap();
        let known = KnownHost { path: dir.path().join("known_hosts"), alias: "sindri-7".into() };
        let key = || PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap();
        let (first, second) = (key(), key());
        assert!(known.accept(first.public_key()).unwrap());
        assert!(known.accept(first.public_key()).unwrap());
        assert!(!known.accept(second.public_key()).unwrap());
        let other = KnownHost { alias: "sindri-8".into(), ..known.clone() };
        assert!(!other.accept(first.public_key()).unwrap());
        let found = std::process::Command::new("ssh-keygen")
            .args(["-F", "sindri-7", "-f"])
            .arg(&known.path)
            .status()
            .unwrap();
        assert!(found.success());
        fs::remove_file(&known.path).unwrap();
        assert!(known.accept(second.public_key()).unwrap());
    }
}
