//! What a machine is to be, after every check of the configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::process::{Redactor, Secret};

/// A shorter word of what is written only is not looked for in what a machine prints: most of them are no secrets.
const SHORTEST: usize = 8;
/// What surrounds words in YAML, shells and lists.
const MARKS: [char; 15] = ['"', '\'', '`', '[', ']', '{', '}', '(', ')', '<', '>', ',', ';', '|', '&'];

/// A machine as asked for, the same for every backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmSpec {
    /// Its name, also its host name.
    pub name: String,
    /// Whether it is to run.
    pub power_state: PowerState,
    /// What cloud-init reads at first boot.
    pub user_data: Option<Secret>,
    /// Whether that is more than everybody may read who reads the state.
    pub user_data_is_secret: bool,
    /// Who may log in.
    pub ssh: SshAccess,
    /// What a launch waits for.
    pub wait_for: WaitFor,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

impl VmSpec {
    /// Takes what is written only out of what the machine prints: whole, by lines, and by what a line gives a value.
    pub fn redactor(&self) -> Redactor {
        let Some(text) = self.user_data.as_ref().filter(|_| self.user_data_is_secret) else {
            return Redactor::default();
        };
        let texts = strings(text.expose());
        let texts = texts.iter().map(String::as_str).chain([text.expose()]);
        let mut shown: Vec<String> = texts.flat_map(values).map(str::to_owned).collect();
        let files: Vec<String> = shown.iter().filter_map(|value| file(value)).collect();
        shown.extend(files.iter().flat_map(|file| values(file)).map(str::to_owned));
        shown.extend(files);
        let secrets: Vec<Secret> = shown.into_iter().map(Secret::new).collect();
        Redactor::new(secrets.iter().chain([text]))
    }
}

/// What is in it where it is JSON, as `jsonencode` makes it.
fn strings(text: &str) -> Vec<String> {
    let json: String = text.lines().filter(|line| !line.starts_with('#')).collect();
    let (mut left, mut strings) = (Vec::from_iter(serde_json::from_str(&json).ok()), Vec::new());
    while let Some(value) = left.pop() {
        match value {
            Value::String(text) => strings.push(text),
            Value::Array(values) => left.extend(values),
            Value::Object(values) => left.extend(values.into_iter().map(|(_, value)| value)),
            _ => {}
        }
    }
    strings
}

/// Lines, their words, and what follows each colon and equals sign.
fn values(text: &str) -> impl Iterator<Item = &str> {
    let parts = text.lines().flat_map(|line| {
        let words = line.split([':', '=', ' ', '"', '\'']);
        let rests = line.match_indices([':', '=']).map(|(at, _)| &line[at + 1..]);
        words.chain(rests).chain([line])
    });
    let parts = parts.flat_map(|part| [part.trim(), part.trim().trim_matches(MARKS).trim()]);
    parts.filter(|part| part.len() >= SHORTEST)
}

/// A file's content, as cloud-init's `encoding: b64` has it.
fn file(value: &str) -> Option<String> {
    let text = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
    let is_text = text.len() >= SHORTEST && !text.contains(|c: char| c.is_control() && !c.is_whitespace());
    is_text.then_some(text)
}

/// Whether a machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerState {
    /// It does.
    Running,
    /// It does not.
    Stopped,
}

/// Who may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshAccess {
    /// The user.
    pub username: String,
    /// The user's own key, in OpenSSH's format; a fresh pair is made when there is none.
    pub public_key: Option<String>,
    /// The private key that belongs to it, on this computer.
    pub private_key_path: Option<PathBuf>,
    /// Where SSH is reached, when that is not the machine's own address.
    pub host: Option<String>,
    /// The port there, when it is not the usual one.
    pub port: Option<u16>,
}

/// What a launch waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitFor {
    /// The SSH server's banner.
    Ssh,
    /// The end of cloud-init.
    CloudInit,
    /// Nothing.
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(user_data: &str, user_data_is_secret: bool) -> VmSpec {
        VmSpec {
            name: "it".into(),
            power_state: PowerState::Running,
            user_data: Some(Secret::new(user_data)),
            user_data_is_secret,
            ssh: SshAccess {
                username: "ubuntu".into(),
                public_key: None,
                private_key_path: None,
                host: None,
                port: None,
            },
            wait_for: WaitFor::Ssh,
            tags: BTreeMap::new(),
        }
    }

    #[test]
    fn what_is_written_only_does_not_come_back() {
        let yaml = "#cloud-config\nchpasswd:\n  list: \"root:hunter2222\"\npassword: correct horse battery\n\
            runcmd:\n- [sh, -c, TOKEN=s3cr3t-token /x]\n- [login, l1sted-token]\n\
            write_files:\n- {path: /k, encoding: b64, content: a2V5PWluLWEtZmlsZQptb3JlCg==}\n";
        let json =
            "#cloud-config\n{\"bootcmd\": [[\"env\", \"TOKEN=a \\\"quoted\\\" secret\\nof-two-lines\"]]}";
        for (text, shown, secret) in [
            (yaml, "login with hunter2222 now", "hunter2222"),
            (yaml, "+ TOKEN=s3cr3t-token", "s3cr3t-token"),
            (yaml, "login: no such token: l1sted-token", "l1sted-token"),
            (yaml, "ann's password is correct horse battery", "correct horse"),
            (yaml, "/k: key=in-a-file", "in-a-file"),
            (yaml, yaml, "hunter2222"),
            (json, "is a \"quoted\" secret", "quoted"),
            (json, "of-two-lines", "two"),
        ] {
            let redacted = spec(text, true).redactor().redact(shown);
            assert!(!redacted.contains(secret), "{redacted}");
            assert_eq!(spec(text, false).redactor().redact(shown), shown);
        }
        let boots = "[    0.000000] Linux version 6.1.0\nit login: ";
        for text in [yaml, json] {
            assert_eq!(spec(text, true).redactor().redact(boots), boots);
        }
    }
}
