//! Lets a user into a guest before cloud-init gets that far, by systemd's own means.
//!
//! `systemd-sysusers` and `systemd-tmpfiles` read these credentials early in the boot (systemd 252 and later; their
//! manual pages, "Credentials"). An older guest takes no notice, and learns the same from the seed.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Subordinate ids for containers without root: in the range of login.defs(5), far above those that useradd hands out.
const SUBORDINATE: &str = "536870912:65536";

/// The credentials that make `username`, with the right to use sudo, and let this key in beside those that are there.
pub(super) fn credentials(username: &str, public_key: &str) -> BTreeMap<String, String> {
    let key = public_key.trim();
    if username == "root" {
        return [("tmpfiles.extra".to_owned(), lines(&keys("root", "/root", key)))].into();
    }
    let files =
        [home(username), keys(username, &format!("/home/{username}"), key), rights(username)].concat();
    [("sysusers.extra".to_owned(), account(username)), ("tmpfiles.extra".to_owned(), lines(&files))].into()
}

/// Lines for sysusers.d(5). The id that distributions give their first user; another one when it is taken.
fn account(name: &str) -> String {
    format!("u {name} 1000 \"{name}\" /home/{name} /bin/bash\nm {name} adm\n")
}

// Lines for tmpfiles.d(5). A colon leaves the mode or owner of what is there alone.

fn home(name: &str) -> Vec<String> {
    let folder = format!("/home/{name}");
    let skeleton = [".bashrc", ".bash_logout", ".profile"];
    let copies = skeleton.map(|file| format!("C {folder}/{file} :0644 :{name} :{name} - /etc/skel/{file}"));
    [vec![format!("d {folder} :0750 :{name} :{name} -")], copies.to_vec()].concat()
}

/// Appended, for the image or a step may have brought keys of its own.
fn keys(name: &str, home: &str, key: &str) -> Vec<String> {
    let line = STANDARD.encode(format!("{key}\n"));
    vec![
        format!("d {home}/.ssh :0700 :{name} :{name} -"),
        format!("f {home}/.ssh/authorized_keys :0600 :{name} :{name} -"),
        format!("w+~ {home}/.ssh/authorized_keys - - - - {line}"),
    ]
}

/// The sudo rule stands where cloud-init writes its own.
fn rights(name: &str) -> Vec<String> {
    let rule = STANDARD.encode(format!("{name} ALL=(ALL) NOPASSWD:ALL\n"));
    vec![
        "d /etc/sudoers.d :0750 :root :root -".to_owned(),
        format!("f~ /etc/sudoers.d/90-cloud-init-users :0440 :root :root - {rule}"),
        format!("w+ /etc/subuid - - - - {name}:{SUBORDINATE}\\n"),
        format!("w+ /etc/subgid - - - - {name}:{SUBORDINATE}\\n"),
    ]
}

fn lines(lines: &[String]) -> String {
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_and_root() {
        let all = credentials("ann", "ssh-ed25519 AAAA some one\n");
        let text: Vec<String> = all.iter().map(|(name, content)| format!("[{name}]\n{content}")).collect();
        insta::assert_snapshot!(text.join("\n"));
        let root = credentials("root", "ssh-ed25519 AAAA\n");
        assert_eq!(Vec::from_iter(root.keys()), ["tmpfiles.extra"]);
    }
}
