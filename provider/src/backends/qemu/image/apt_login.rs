//! How APT logs in at mirrors and proxies, in the words of apt_auth.conf(5). It stands in files that nobody but their reader
//! can open: never in an argument, which all users see, nor in what becomes the image.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::area::Area;
use super::{BuildError, Host};
use crate::process::enter::{AREA, ENV_PREFIX, Entry};
use crate::process::{BuildLog, Limits, Secret, private};

/// The file's name, wherever it is for the moment.
const FILE: &str = "auth.conf";

/// Marks settings that the image's own APT must not have.
const PASSING: &str = "// for the bootstrap alone";

/// Run as the namespace's root, who is somebody else on the host.
const WRITE: &str = "umask 077 && printf %s \"$SINDRI_APT_LOGIN\" >\"$1\"";

/// Who logs in where, and the proxies that ask for it.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Login {
    entries: String,
    proxies: Vec<String>,
    /// The same with who logs in there.
    whole: Vec<Secret>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({} proxies)", self.proxies.len())
    }
}

impl Login {
    /// What this computer's APT has in `auth.conf`, as far as we may read it.
    pub(super) fn of_host(etc_apt: &Path, log: &BuildLog) -> Self {
        let parts = fs::read_dir(etc_apt.join("auth.conf.d")).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = parts.map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_some_and(|end| end == "conf"));
        files.sort();
        files.insert(0, etc_apt.join(FILE));
        let mut login = Self::default();
        for file in files.iter().filter(|file| file.exists()) {
            match fs::read_to_string(file) {
                Ok(text) => login.entries.push_str(&format!("{}\n", text.trim_end())),
                Err(error) => log.line(&format!(
                    "{} is not used: {error}. A mirror that asks for a login will not answer",
                    file.display()
                )),
            }
        }
        login
    }

    /// Takes over a proxy with a user and a password in its address, as `Acquire::http::Proxy "http://a:b@proxy"`; false when
    /// they cannot be told otherwise.
    pub(super) fn take_proxy(&mut self, setting: &str) -> bool {
        let Some((proxy, entry)) = without_user(setting) else { return false };
        self.proxies.push(proxy);
        self.whole.push(Secret::new(setting));
        self.entries.push_str(&entry);
        true
    }

    /// The proxies, without who logs in there.
    pub(super) fn proxies(&self) -> &[String] {
        &self.proxies
    }

    /// The proxies, with who logs in there, for us alone.
    pub(super) fn whole_proxies(&self) -> &[Secret] {
        &self.whole
    }

    /// Whether there is anybody to log in.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.trim().is_empty()
    }

    /// What mmdebstrap is told beside everything else; the file is in `folder`, as the namespace sees it.
    pub(super) fn arguments(&self, folder: &str) -> Vec<String> {
        if self.is_empty() {
            return Vec::new();
        }
        let file = format!("Dir::Etc::netrc \"{folder}/{FILE}\"");
        let settings = self.proxies.iter().chain([&file]);
        let mut arguments: Vec<String> =
            settings.map(|setting| format!("--aptopt={setting}; {PASSING};")).collect();
        arguments
            .push(format!("--customize-hook=sed -i '\\|{PASSING}|d' \"$1/etc/apt/apt.conf.d/99mmdebstrap\""));
        arguments
    }

    /// Writes the file for a bootstrap in `folder` of the area: the namespace's root owns it and no other reads it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) async fn lend(
        &self,
        host: &Host,
        area: &Area,
        folder: &str,
        limits: &Limits,
    ) -> Result<(), BuildError> {
        if self.is_empty() {
            return Ok(());
        }
        let entry = Entry::new("sh").args(["-c", WRITE, "sh"]).args([format!("{AREA}/{folder}/{FILE}")]);
        let command = area.command(host, &entry).env(format!("{ENV_PREFIX}SINDRI_APT_LOGIN"), &self.entries);
        let written = host.runner.check(&command, None, limits).await;
        written.map(drop).map_err(BuildError::tool("hand APT's logins to the bootstrap"))
    }

    /// Takes it away again, before the folder becomes a layer.
    ///
    /// # Errors
    /// When it stays.
    pub(super) fn take_back(&self, area: &Area, folder: &str) -> Result<(), BuildError> {
        if self.is_empty() {
            return Ok(());
        }
        let path = area.host(&format!("{folder}/{FILE}"));
        fs::remove_file(&path).map_err(BuildError::io("remove", &path))
    }

    /// Writes the file for a program of our own user's, 0600; what has to be said of it. The proxies are the program's own.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn option(&self, folder: &Path) -> Result<Option<String>, BuildError> {
        if self.is_empty() {
            return Ok(None);
        }
        let path = folder.join(FILE);
        private::write(&path, self.entries.as_bytes()).map_err(BuildError::io("write", &path))?;
        Ok(Some(format!("Dir::Etc::netrc={}", path.display())))
    }
}

/// A proxy's setting without the user, and the entry that logs in there. None where there is no user, and where a file could
/// not tell what the address does.
fn without_user(setting: &str) -> Option<(String, String)> {
    let (name, value) = setting.split_once(' ')?;
    let (scheme, rest) = value.trim_matches('"').split_once("://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (user, proxy) = authority.rsplit_once('@')?;
    let (user, password) = user.split_once(':')?;
    let (user, password) = (decoded(user)?, decoded(password)?);
    let is_word =
        |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    if !["http", "https"].contains(&scheme) || proxy.is_empty() || !is_word(&user) || !is_word(&password) {
        return None;
    }
    let entry = format!("machine {scheme}://{proxy} login {user} password {password}\n");
    Some((format!("{name} \"{scheme}://{proxy}{path}\""), entry))
}

/// `%40` is `@`.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxys_user_goes_into_a_file() {
        let proxy = |address: &str| without_user(&format!("Acquire::http::Proxy \"{address}\""));
        for (address, without, entry) in [
            ("http://a:b@proxy:3128", "http://proxy:3128", "machine http://proxy:3128 login a password b\n"),
            ("https://a:b%40c@p/", "https://p/", "machine https://p login a password b@c\n"),
            ("http://a:b:c@[::1]:1/", "http://[::1]:1/", "machine http://[::1]:1 login a password b:c\n"),
        ] {
            let expected = (format!("Acquire::http::Proxy \"{without}\""), entry.to_owned());
            assert_eq!(proxy(address), Some(expected), "{address}");
        }
        // What a file cannot say, or what is no login.
        for other in [
            "http://proxy:3128",
            "DIRECT",
            "http://a@proxy",
            "http://:b@proxy",
            "http://a:@proxy",
            "http://a:b%20c@proxy",
            "http://a:b%0ac@proxy",
            "http://a:b%4@proxy",
            "http://a:%ff@proxy",
            "http://a:b@",
            "socks5h://a:b@proxy",
        ] {
            assert_eq!(proxy(other), None, "{other}");
        }
        assert_eq!(without_user("Acquire::https::CaInfo \"/etc/a@b.pem\""), None);
    }

    #[test]
    fn no_argument_has_a_password() {
        let mut login = Login::default();
        assert_eq!(login.arguments("/f"), [""; 0]);
        assert!(login.take_proxy("Acquire::http::Proxy \"http://user:canary@proxy:3128\""));
        assert!(!login.take_proxy("Acquire::https::Proxy \"socks5h://user:canary@proxy\""));
        let arguments = login.arguments("/f");
        assert_eq!(
            arguments,
            [
                "--aptopt=Acquire::http::Proxy \"http://proxy:3128\"; // for the bootstrap alone;",
                "--aptopt=Dir::Etc::netrc \"/f/auth.conf\"; // for the bootstrap alone;",
                "--customize-hook=sed -i '\\|// for the bootstrap alone|d' \"$1/etc/apt/apt.conf.d/99mmdebstrap\"",
            ]
        );
    }

    #[test]
    fn the_hosts_own_logins_are_read() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let log = BuildLog::create(dir.path(), "x", "1", crate::process::Redactor::default()).unwrap();
        assert!(Login::of_host(dir.path(), &log).is_empty());
        fs::create_dir(dir.path().join("auth.conf.d")).unwrap();
        for (name, text) in [
            ("auth.conf", "machine one login a password b"),
            ("auth.conf.d/b.conf", "machine three login a password b\n\n"),
            ("auth.conf.d/a.conf", "# of a\nmachine two login a password b\n"),
            ("auth.conf.d/c.conf~", "machine four login a password b\n"),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let login = Login::of_host(dir.path(), &log);
        let machines: Vec<_> = login.entries.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        assert_eq!(machines, ["one", "of", "two", "three"]);
        let folder = dir.path().join("f");
        fs::create_dir(&folder).unwrap();
        let option = login.option(&folder).unwrap().unwrap();
        let file = option.strip_prefix("Dir::Etc::netrc=").unwrap();
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(file).unwrap(), login.entries);
    }
}
