//! The command that a person logs in with, quoted for a shell.

use std::path::Path;

use super::quote;

/// Who logs in, where to, and with what.
#[derive(Debug, Clone, Copy)]
pub struct LoginCommand<'a> {
    /// The server.
    pub host: &'a str,
    /// Its port.
    pub port: u16,
    /// The user there.
    pub username: &'a str,
    /// The private key; the user's own ones when there is none.
    pub private_key: Option<&'a Path>,
    /// The file with the host key, and the name under which it stands there.
    pub known_host: Option<(&'a Path, &'a str)>,
}

impl LoginCommand<'_> {
    /// The command. The host key that is seen first is recorded, and from then on the only one.
    pub fn line(&self) -> String {
        let mut words = vec!["ssh".to_owned()];
        let mut option = |text: String| words.extend(["-o".to_owned(), text]);
        if let Some((file, alias)) = self.known_host {
            let file = file.display().to_string().replace('%', "%%");
            option(format!("UserKnownHostsFile=\"{file}\""));
            option(format!("HostKeyAlias={alias}"));
            option("StrictHostKeyChecking=accept-new".to_owned());
            // Under a hashed name, as distributions set it, nobody else would find it.
            option("HashKnownHosts=no".to_owned());
        }
        if let Some(key) = self.private_key {
            option("IdentitiesOnly=yes".to_owned());
            words.extend(["-i".to_owned(), key.display().to_string()]);
        }
        words.extend(["-p".to_owned(), self.port.to_string()]);
        words.push(format!("{}@{}", self.username, self.host));
        let word = |word: &String| if plain(word) { word.clone() } else { quote(word) };
        words.iter().map(word).collect::<Vec<_>>().join(" ")
    }
}

fn plain(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./=@:+%,".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_sees_what_was_meant() {
        let bare = LoginCommand {
            host: "192.0.2.7",
            port: 22,
            username: "ubuntu",
            private_key: None,
            known_host: None,
        };
        assert_eq!(bare.line(), "ssh -p 22 ubuntu@192.0.2.7");
        let whole = LoginCommand {
            private_key: Some(Path::new("/my keys/id")),
            known_host: Some((Path::new("/100%/known"), "sindri-i-1")),
            ..bare
        };
        assert_eq!(
            whole.line(),
            "ssh -o 'UserKnownHostsFile=\"/100%%/known\"' -o HostKeyAlias=sindri-i-1 -o StrictHostKeyChecking=accept-new -o HashKnownHosts=no -o IdentitiesOnly=yes -i '/my keys/id' -p 22 ubuntu@192.0.2.7"
        );
    }
}
