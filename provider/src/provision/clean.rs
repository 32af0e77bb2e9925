//! What is removed at the end of a build, so that an image carries nothing of the machine that made it.

use super::{Task, Work};
use crate::domain::{Check, Environment, Security};

const SYSTEM: &str = include_str!("../../../templates/scripts/clean.sh");
const HOST_KEYS: &str = include_str!("../../../templates/scripts/remove-host-keys.sh");

const LOOK: &str = include_str!("../../../templates/scripts/look-clean.sh");

/// A script to be run as root in the image, after all steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cleanup {
    /// For the log.
    pub name: &'static str,
    /// Its text with its `#!` line.
    pub script: &'static str,
}

impl Cleanup {
    /// As a task that a backend runs like a step.
    pub fn task(self) -> Task {
        Task {
            name: self.name.to_owned(),
            work: Work::Script(self.script.to_owned()),
            environment: Environment::default(),
            user: None,
            timeout: None,
        }
    }
}

/// The scripts that clean an image, in order.
pub fn cleanup(security: Security) -> Vec<Cleanup> {
    let mut scripts = Vec::new();
    if security.clean_sensitive_data {
        scripts.push(Cleanup { name: "Removing logs, histories, caches and instance data", script: SYSTEM });
    }
    if security.remove_ssh_host_keys {
        scripts.push(Cleanup { name: "Removing SSH host keys", script: HOST_KEYS });
    }
    scripts
}

/// Looks in a machine from the finished image for what its build was to remove; none when that was nothing.
pub fn look(security: Security) -> Option<Check> {
    let data = security.clean_sensitive_data.then_some("data");
    let keys = security.remove_ssh_host_keys.then_some("keys");
    let look_for = data.into_iter().chain(keys).collect::<Vec<_>>().join(" ");
    let command = format!("SINDRI_LOOK_FOR=\"{look_for}\"\n{LOOK}");
    (!look_for.is_empty()).then(|| Check { name: "nothing of the build is left".to_owned(), command })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    /// What there is in a tree, and whether it is as old as the image; it was booted in second 2000.
    fn found(files: &[(&str, u64)], security: Security) -> String {
        let root = tempfile::tempdir().unwrap();
        for (name, time) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "x").unwrap();
            let file = fs::File::options().append(true).open(&path).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(*time)).unwrap();
        }
        let own = root.path().join("var/lib/cloud/instance");
        fs::create_dir_all(own.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("/var/lib/cloud/instances/i-2", own).unwrap();
        let Some(check) = look(security) else { return String::new() };
        let mut shell = Command::new("sh");
        shell.args(["-c", &check.command]).env("SINDRI_ROOT", root.path()).env("SINDRI_BOOTED", "2000");
        let told = shell.output().unwrap();
        let text = String::from_utf8(told.stdout).unwrap();
        assert_eq!((told.status.success(), told.stderr.as_slice()), (text.is_empty(), &b""[..]), "{text}");
        text
    }

    #[test]
    fn what_an_image_brought_along_is_found_and_what_its_boot_made_is_not() {
        let (off, on) = (false, true);
        let security = |clean_sensitive_data, remove_ssh_host_keys| Security {
            clean_sensitive_data,
            remove_ssh_host_keys,
        };
        let all = security(on, on);
        for (file, time, security, is_found) in [
            ("etc/ssh/ssh_host_rsa_key", 1000, all, true),
            ("etc/ssh/ssh_host_rsa_key", 3000, all, false),
            ("etc/ssh/ssh_host_rsa_key", 1000, security(on, off), false),
            ("etc/ssh/sshd_config", 1000, all, false),
            ("etc/machine-id", 1000, all, true),
            ("etc/machine-id", 3000, all, false),
            ("etc/machine-id", 1000, security(off, on), false),
            ("etc/machine-id", 1000, security(off, off), false),
            ("var/lib/systemd/random-seed", 1000, all, true),
            ("root/.bash_history", 1000, all, true),
            ("home/ubuntu/.zsh_history", 1000, all, true),
            ("home/ubuntu/.bashrc", 1000, all, false),
            ("var/lib/cloud/instances/i-1/user-data.txt", 3000, all, true),
            ("var/lib/cloud/instances/i-2/user-data.txt", 1000, all, false),
        ] {
            let told = found(&[(file, time)], security);
            assert_eq!(!told.is_empty(), is_found, "{file} {time} {security:?}: {told}");
        }
        let told = found(&[("root/.bash_history", 1000)], all);
        assert_eq!(told, "the image is not clean:\n/root/.bash_history: what somebody typed\n");
    }
}
