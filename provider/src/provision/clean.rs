//! What is removed at the end of a build, so that an image carries nothing of the machine that made it.

use super::{Task, Work};
use crate::domain::{Check, Environment, Security};

const SYSTEM: &str = include_str!("../../../templates/scripts/clean.sh");
const HOST_KEYS: &str = include_str!("../../../templates/scripts/remove-host-keys.sh");

const LOOK: &str = include_str!("../../../templates/scripts/look-clean.sh");

/// What cleans an image after all steps, in order.
pub fn cleanup(security: Security) -> Vec<Task> {
    let task = |name: &str, script: &str| Task {
        name: name.to_owned(),
        work: Work::Script(script.to_owned()),
        environment: Environment::default(),
        user: None,
        timeout: None,
    };
    let data = ("Removing logs, histories, caches and instance data", SYSTEM);
    let keys = ("Removing SSH host keys", HOST_KEYS);
    let data = security.clean_sensitive_data.then_some(data);
    let keys = security.remove_ssh_host_keys.then_some(keys);
    data.into_iter().chain(keys).map(|(name, script)| task(name, script)).collect()
}

/// What is looked for in a machine from a finished image; with `everybody`, also for keys that let somebody into all machines
/// from it, and for what nobody else may read: logins, tokens, logs. Nothing when the build was to remove nothing.
pub fn looked_for(security: Security, everybody: bool) -> Vec<&'static str> {
    let data = security.clean_sensitive_data.then_some("data");
    let keys = security.remove_ssh_host_keys.then_some("keys");
    let of_everybody = ["logins", "secrets"].into_iter().filter(|_| everybody);
    data.into_iter().chain(keys).chain(of_everybody).collect()
}

/// Looks in a machine from the finished image for what its build was to remove. An image for everybody comes with `own_key`, in
/// base64, which lets us in: no other may.
pub fn look(security: Security, own_key: Option<&str>) -> Option<Check> {
    let look_for = looked_for(security, own_key.is_some()).join(" ");
    let own_key = own_key.unwrap_or_default();
    let command = format!("SINDRI_LOOK_FOR=\"{look_for}\"\nSINDRI_OWN_KEY=\"{own_key}\"\n{LOOK}");
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
            write(root.path(), name, "x", *time);
        }
        let own = root.path().join("var/lib/cloud/instance");
        fs::create_dir_all(own.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("/var/lib/cloud/instances/i-2", own).unwrap();
        look(security, None).map(|check| told(&check, root.path())).unwrap_or_default()
    }

    fn write(root: &std::path::Path, name: &str, text: &str, time: u64) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let file = fs::File::options().append(true).open(&path).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(time)).unwrap();
    }

    fn told(check: &Check, root: &std::path::Path) -> String {
        let mut shell = Command::new("sh");
        shell.args(["-c", &check.command]).env("SINDRI_ROOT", root).env("SINDRI_BOOTED", "2000");
        let told = shell.output().unwrap();
        let text = String::from_utf8(told.stdout).unwrap();
        assert_eq!((told.status.success(), told.stderr.as_slice()), (text.is_empty(), &b""[..]), "{text}");
        text
    }

    /// What the first boot writes is newer than the boot, and what it finds it keeps: the time tells nothing.
    #[test]
    fn an_image_for_everybody_lets_in_nobody_but_us() {
        let security = Security { clean_sensitive_data: true, remove_ssh_host_keys: true };
        let (own, other) = ("ssh-ed25519 AAAAown= us\n", "ssh-ed25519 AAAAother= the builder\n");
        let restricted = format!("command=\"echo 'as the user'\" {own}");
        for (file, text, is_found) in [
            ("home/ubuntu/.ssh/authorized_keys", own.to_owned(), false),
            ("home/ubuntu/.ssh/authorized_keys", format!("{other}{own}"), true),
            ("root/.ssh/authorized_keys", format!("# ours\n\n{restricted}"), false),
            ("root/.ssh/authorized_keys", other.to_owned(), true),
            ("root/.ssh/authorized_keys2", other.to_owned(), true),
            ("root/.ssh/authorized_keys", String::new(), false),
            ("root/.ssh/id_ed25519.pub", other.to_owned(), false),
        ] {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &text).unwrap();
            let seen = told(&look(security, Some("AAAAown=")).unwrap(), root.path());
            let expected =
                format!("the image is not clean:\n/{file}: lets somebody into all machines from the image\n");
            assert_eq!(seen, if is_found { expected.as_str() } else { "" }, "{file} {text}");
            assert_eq!(told(&look(security, None).unwrap(), root.path()), "", "{file} {text}");
        }
    }

    #[test]
    fn an_image_for_everybody_has_nobodys_secrets() {
        let security = Security { clean_sensitive_data: true, remove_ssh_host_keys: true };
        for (file, text, is_found) in [
            ("etc/shadow", "root:!:1::::::\nann:$y$j9T$x:1::::::\n", false),
            ("etc/shadow", "root:*:1::::::\n", false),
            ("etc/shadow", "root:!*:1::::::\n", false),
            ("etc/shadow", "root:$y$j9T$s3cr3t:1::::::\n", true),
            ("etc/shadow", "root::1::::::\n", true),
            ("var/log/apt/history.log", "Commandline: s3cr3t\n", true),
            ("var/log/apt/history.log", "", false),
            ("root/.aws/credentials", "[default]\naws_secret_access_key = s3cr3t\n", true),
            ("root/.aws/credentials", "[default]\ncredential_process = /bin/helper\n", false),
            ("home/ann/.aws/sso/cache/0a1b.json", r#"{"accessToken": "s3cr3t"}"#, true),
            ("home/ann/.docker/config.json", r#"{"auths": {"ghcr.io": {"auth": "s3cr3t"}}}"#, true),
            ("home/ann/.docker/config.json", r#"{"auths": {"ghcr.io": {}}, "credsStore": "x"}"#, false),
            ("root/.netrc", "machine git.example login ann password s3cr3t\n", true),
            ("root/.netrc", "machine git.example login ann\n", false),
            ("root/.git-credentials", "https://ann:s3cr3t@git.example\n", true),
            ("home/ann/.config/gcloud/application_default_credentials.json", "s3cr3t", true),
            ("home/ann/.config/gcloud/configurations/config_default", "[core]\n", false),
            ("home/ann/.azure/msal_token_cache.json", "s3cr3t", true),
            ("home/ann/.azure/azureProfile.json", "{}", false),
            ("root/.kube/config", "users:\n- name: a\n  user:\n    token: s3cr3t\n", true),
            ("root/.kube/config", "clusters:\n- cluster: {server: 'https://k'}\n", false),
            ("home/ann/.ssh/id_ed25519", "-----BEGIN OPENSSH PRIVATE KEY-----\ns3cr3t\n", true),
            ("home/ann/.ssh/id_ed25519.pub", "ssh-ed25519 AAAA ann\n", false),
            ("etc/apt/auth.conf", "machine m.example login ann password s3cr3t\n", true),
            ("etc/apt/auth.conf.d/90mirror.conf", "machine m.example\nlogin ann\npassword s3cr3t\n", true),
            ("etc/apt/auth.conf", "# machine, login: see apt_auth.conf(5)\n", false),
        ] {
            let told = |time, own_key| {
                let root = tempfile::tempdir().unwrap();
                write(root.path(), file, text, time);
                told(&look(security, own_key).unwrap(), root.path())
            };
            let seen = told(1000, Some("AAAAown="));
            assert_eq!(seen.contains(&format!("\n/{file}: ")), is_found, "{file}: {text}{seen}");
            assert!(!seen.contains("s3cr3t"), "{seen}");
            assert_eq!(told(1000, None), "", "an image of one's own may have it: {file}");
            if file != "etc/shadow" {
                assert_eq!(told(3000, Some("AAAAown=")), "", "the boot made it: {file}");
            }
        }
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
