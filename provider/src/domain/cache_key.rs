//! The cache key: two requests with the same key would build the same image.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, Digest, SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::image_spec::{Action, Environment, ImageSpec, Step};

/// Raised on purpose when our own scripts change meaning, so that images are built anew.
const RECIPE: u32 = 1;

/// How many hex digits a key has: one tag value that is legal on every cloud holds 63.
const DIGITS: usize = 63;

/// SHA-256 over the normalised request, in lower-case hex, cut to 63 digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CacheKey(String);

/// What a request holds beside the specification: versions stand for secrets, triggers for what we cannot
/// see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyInputs {
    /// `environment_wo_version` of the image.
    pub secrets_version: Option<i64>,
    /// `environment_wo_version` of each step, in order.
    pub step_secrets_versions: Vec<Option<i64>>,
    /// The user's own inputs.
    pub triggers: BTreeMap<String, String>,
    /// What the backend adds: the base as requested, the disk's shape.
    pub target: Value,
}

/// A file that a request names cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path} for step {step}")]
pub struct UnreadableInput {
    /// The step's position, from 0.
    pub step: usize,
    /// The file or folder.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl CacheKey {
    /// The key of a request. Reads the files that it uploads.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn of(spec: &ImageSpec, inputs: &KeyInputs) -> Result<Self, UnreadableInput> {
        let mut steps = Vec::with_capacity(spec.steps.len());
        for (index, step) in spec.steps.iter().enumerate() {
            let version = inputs.step_secrets_versions.get(index).copied().flatten();
            steps.push(step_input(index, step, version)?);
        }
        let checks: Vec<Value> =
            spec.checks.iter().map(|check| json!({"name": check.name, "command": check.command})).collect();
        let request = json!({
            "recipe": RECIPE,
            "name_prefix": spec.name_prefix,
            "environment": plain(&spec.environment),
            "environment_wo_version": inputs.secrets_version,
            "steps": steps,
            "security": {
                "clean_sensitive_data": spec.security.clean_sensitive_data,
                "remove_ssh_host_keys": spec.security.remove_ssh_host_keys,
            },
            "checks": checks,
            "triggers": inputs.triggers,
            "target": inputs.target,
        });
        // Maps are sorted and the rest is written in the order above, so equal requests are equal bytes.
        let digest = hex::encode(digest(&SHA256, request.to_string().as_bytes()));
        Ok(Self(digest[..DIGITS].to_owned()))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its first 12 digits, for names.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<CacheKey> for String {
    fn from(key: CacheKey) -> Self {
        key.0
    }
}

impl TryFrom<String> for CacheKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == DIGITS && text.bytes().all(hex) {
            Ok(Self(text))
        } else {
            Err("a cache key is 63 lower-case hex digits")
        }
    }
}

fn plain(environment: &Environment) -> &BTreeMap<String, String> {
    &environment.plain
}

fn step_input(index: usize, step: &Step, secrets_version: Option<i64>) -> Result<Value, UnreadableInput> {
    let action = match &step.action {
        Action::Inline(lines) => json!({"inline": lines}),
        // The path is not part of the request, what the script says is.
        Action::Script { content, .. } => json!({"script": content}),
        Action::Upload { source, destination, mode, owner } => {
            let unreadable = |(path, source)| UnreadableInput { step: index, path, source };
            let content = tree_digest(source, mode.is_none()).map_err(unreadable)?;
            json!({"upload": content, "destination": destination, "mode": mode, "owner": owner})
        }
        Action::Reboot => json!("reboot"),
    };
    Ok(json!({
        "action": action,
        "environment": plain(&step.environment),
        "environment_wo_version": secrets_version,
        "user": step.user,
    }))
}

/// A digest of a file, or of a folder's names, links and contents; where `modes` count, of whether a file may be run, which
/// is all that an upload keeps of them. Not of times, owners or the path itself.
fn tree_digest(path: &Path, modes: bool) -> Result<String, (PathBuf, io::Error)> {
    let mut hasher = Context::new(&SHA256);
    // What the user names may be a link; links below it are copied as links.
    let target = fs::canonicalize(path).map_err(|error| (path.to_owned(), error))?;
    add_entry(&mut hasher, &target, modes)?;
    Ok(hex::encode(hasher.finish()))
}

fn add_entry(hasher: &mut Context, path: &Path, modes: bool) -> Result<(), (PathBuf, io::Error)> {
    let at = |error| (path.to_owned(), error);
    let meta = fs::symlink_metadata(path).map_err(at)?;
    let mut field = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    if meta.is_symlink() {
        field(b"link");
        field(fs::read_link(path).map_err(at)?.as_os_str().as_bytes());
        return Ok(());
    }
    let is_run = meta.is_dir() || (modes && meta.permissions().mode() & 0o111 != 0);
    field(if is_run { b"755" } else { b"644" });
    if meta.is_dir() {
        field(b"folder");
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(at)? {
            names.push(entry.map_err(at)?.file_name());
        }
        names.sort();
        for name in names {
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
            add_entry(hasher, &path.join(name), modes)?;
        }
        hasher.update(&u64::MAX.to_le_bytes());
        return Ok(());
    }
    if !meta.is_file() {
        return Err(at(io::Error::new(io::ErrorKind::InvalidInput, "neither a file, a folder nor a link")));
    }
    field(b"file");
    hasher.update(file_digest(path).map_err(at)?.as_ref());
    Ok(())
}

/// SHA-256 of a file's content, read in pieces.
///
/// # Errors
/// When the file cannot be read.
pub fn file_digest(path: &Path) -> io::Result<Digest> {
    let mut file = fs::File::open(path)?;
    let mut hasher = Context::new(&SHA256);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests;
