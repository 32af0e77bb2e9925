//! What Packer sees of the provider's environment when it builds a template of the user's own: whatever its builders and
//! provisioners take their credentials from, and nothing else.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::packer::command::CACHE_DIR;
use crate::process::{Secret, TRUSTED, private};

/// Names begin so. `PKR_VAR_…` is not among them: values are said in the configuration, and count for the key.
const PREFIXES: [&str; 23] = [
    "ALICLOUD_",
    "ANSIBLE_",
    "ARM_",
    "AWS_",
    "AZURE_",
    "CLOUDSDK_",
    "DIGITALOCEAN_",
    "DOCKER_",
    "EXOSCALE_",
    "GCLOUD_",
    "GOOGLE_",
    "HCLOUD_",
    "HCP_",
    "LINODE_",
    "OCI_",
    "OS_",
    "PROXMOX_",
    "SCW_",
    "SSH_AUTH_SOCK",
    "TENCENTCLOUD_",
    "VAULT_",
    "VSPHERE_",
    "VULTR_",
];
/// What is in the name of a variable with a secret.
const SECRET: [&str; 6] = ["SECRET", "TOKEN", "PASSW", "CREDENTIALS", "PRIVATE", "_KEY"];

/// The variables that are handed on.
pub(super) fn handed_on() -> BTreeMap<OsString, OsString> {
    std::env::vars_os().filter(|(name, _)| is_handed_on(name)).collect()
}

/// All that Packer is given: the variables, and where it keeps what it downloads, which is large and the same for the next
/// build. Packer locks it.
pub(super) fn of_packer(cache_dir: &Path) -> BTreeMap<OsString, OsString> {
    let mut all = handed_on();
    let cache = cache(std::env::var_os(CACHE_DIR), cache_dir);
    // Packer says what is wrong with it where it is needed.
    let _ = private::create_dir(&cache);
    all.insert(CACHE_DIR.into(), cache.into());
    all
}

/// Where the user says, or in a folder of ours.
fn cache(users: Option<OsString>, ours: &Path) -> PathBuf {
    let users = users.filter(|path| !path.is_empty()).and_then(|path| std::path::absolute(path).ok());
    users.unwrap_or_else(|| ours.join("packer"))
}

/// Those of them that must not be told.
pub(super) fn secrets(all: &BTreeMap<OsString, OsString>) -> Vec<Secret> {
    let is_secret =
        |name: &OsStr| SECRET.iter().any(|word| name.to_string_lossy().to_uppercase().contains(word));
    let secret = all.iter().filter(|(name, _)| is_secret(name));
    secret.filter_map(|(_, value)| value.to_str().map(Secret::new)).collect()
}

fn is_handed_on(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || TRUSTED.contains(&&*name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_on_and_nothing_else() {
        for (name, expected, secret) in [
            ("AWS_PROFILE", true, false),
            ("AWS_SECRET_ACCESS_KEY", true, true),
            ("HCLOUD_TOKEN", true, true),
            ("SSH_AUTH_SOCK", true, false),
            ("SSL_CERT_FILE", true, false),
            ("PKR_VAR_password", false, true),
            ("PACKER_LOG", false, false),
            ("TF_VAR_token", false, true),
            ("HOSTNAME", false, false),
        ] {
            assert_eq!(is_handed_on(OsStr::new(name)), expected, "{name}");
            let all = BTreeMap::from([(name.into(), "x".into())]);
            assert_eq!(secrets(&all).len(), usize::from(secret), "{name}");
        }
    }

    #[test]
    fn downloads_are_kept_where_the_user_says() {
        let ours = Path::new("/cache");
        let here = std::env::current_dir().unwrap();
        for (users, expected) in [
            (None, ours.join("packer")),
            (Some(""), ours.join("packer")),
            (Some("/isos"), "/isos".into()),
            (Some("isos"), here.join("isos")),
        ] {
            assert_eq!(cache(users.map(Into::into), ours), expected);
        }
    }
}
