//! SSH keys: made fresh for a guest, or read from a user's file.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};

use super::SshError;
use crate::process::private;

/// Makes an ed25519 key, writes the private half to `path` (0600, OpenSSH's format) beside and renamed, and
/// returns the public one.
///
/// # Errors
/// When the file cannot be written.
pub fn generate(path: &Path, comment: &str) -> Result<String, SshError> {
    let unusable = |error: russh::keys::ssh_key::Error| SshError::Key {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let mut key =
        PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).map_err(unusable)?;
    key.set_comment(comment);
    let text = key.to_openssh(LineEnding::LF).map_err(unusable)?;
    let written = private::write(path, text.as_bytes());
    written.map_err(|source| SshError::File { path: path.to_owned(), source })?;
    key.public_key().to_openssh().map_err(unusable)
}

/// Reads a private key without a passphrase.
///
/// # Errors
/// When the file cannot be read, is no key, has a passphrase, or is of a kind that is not supported (RSA).
pub fn load(path: &Path) -> Result<Arc<PrivateKey>, SshError> {
    let text = fs::read_to_string(path).map_err(|source| SshError::File { path: path.to_owned(), source })?;
    let unusable = |reason: String| SshError::Key { path: path.to_owned(), reason };
    let key = russh::keys::decode_secret_key(&text, None).map_err(|error| unusable(error.to_string()))?;
    match key.algorithm() {
        Algorithm::Ed25519 | Algorithm::Ecdsa { .. } => Ok(Arc::new(key)),
        other => Err(unusable(format!("{other} keys are not supported; use an ed25519 or ecdsa key"))),
    }
}

/// The public half of a private key's file, as OpenSSH's one line.
///
/// # Errors
/// Those of [`load`].
pub fn public_key(path: &Path) -> Result<String, SshError> {
    let unusable = |reason: String| SshError::Key { path: path.to_owned(), reason };
    load(path)?.public_key().to_openssh().map_err(|error| unusable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_generated_key_is_private_and_ssh_keygen_agrees() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("id_ed25519");
        let public = generate(&path, "sindri dev").unwrap();
        assert!(public.starts_with("ssh-ed25519 ") && public.ends_with(" sindri dev"), "{public}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let derived =
            std::process::Command::new("ssh-keygen").arg("-y").arg("-f").arg(&path).output().unwrap();
        assert_eq!(String::from_utf8(derived.stdout).unwrap().trim(), public);
        assert_eq!(public_key(&path).unwrap(), public);
        assert_ne!(generate(&path, "sindri dev").unwrap(), public);
    }

    #[test]
    fn unusable_keys_say_why() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, "not a key").unwrap();
        assert!(matches!(load(&path).unwrap_err(), SshError::Key { .. }));
        assert!(matches!(load(&dir.path().join("none")).unwrap_err(), SshError::File { .. }));
        let locked = dir.path().join("locked");
        let made = std::process::Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "passphrase", "-f"])
            .arg(&locked)
            .status()
            .unwrap();
        assert!(made.success());
        assert!(
            load(&locked).unwrap_err().to_string().contains("encrypted"),
            "{}",
            load(&locked).unwrap_err()
        );
    }
}
