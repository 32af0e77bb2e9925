//! How APT logs in at mirrors and proxies, in the words of apt_auth.conf(5). It stands in files that nobody but their reader
//! can open: never in an argument, which all users see, nor in what becomes the image.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::area::Area;
use super::{BuildError, Host};
use crate::process::enter::{AREA, ENV_PREFIX, Entry};
use crate::process::{BuildLog, Command, Limits, Secret, private};

/// The file's name, wherever it is for the moment.
const FILE: &str = "auth.conf";

/// Marks settings that the image's own APT must not have.
const PASSING: &str = "// for the bootstrap alone";

/// Where a step's APT looks for it: in memory that is there for the time of the step, for its root.
const LENT: &str = "/run/sindri-apt-login";

/// What leads there, until the tree becomes an image: `pack-tree.sh`. A file of the step's own beside it counts, too.
const LINK: &str = "/etc/apt/auth.conf.d/sindri-build.conf";

/// Run as the namespace's root, who is somebody else on the host.
const WRITE: &str = "umask 077 && printf %s \"$SINDRI_APT_LOGIN\" >\"$1\"";

/// Who logs in where.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Login {
    /// At mirrors, an entry each.
    mirrors: Vec<String>,
    proxies: Vec<Proxy>,
}

/// A proxy that asks for a login.
#[derive(Clone, PartialEq, Eq)]
struct Proxy {
    /// Without who logs in there.
    setting: String,
    /// Who does.
    entry: String,
    /// Both, as it is set on this computer.
    whole: Secret,
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
                Ok(text) => login.mirrors.extend(entries(&text)),
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
        let Some((without, entry)) = without_user(setting) else { return false };
        self.proxies.push(Proxy { setting: without, entry, whole: Secret::new(setting) });
        true
    }

    /// Keeps of the mirrors those that a build uses: its packages and steps have no business with others.
    pub(super) fn keep(&mut self, mirrors: &[String]) {
        let hosts: Vec<String> = mirrors.iter().map(|url| host(url)).collect();
        self.mirrors
            .retain(|entry| entry.split(' ').nth(1).is_some_and(|machine| hosts.contains(&host(machine))));
    }

    /// At mirrors alone, for steps that reach them in another way than by this computer's proxies.
    pub(super) fn at_mirrors(&self) -> Self {
        Self { mirrors: self.mirrors.clone(), proxies: Vec::new() }
    }

    /// The proxies' settings, without who logs in there.
    pub(super) fn proxies(&self) -> Vec<&str> {
        self.proxies.iter().map(|proxy| proxy.setting.as_str()).collect()
    }

    /// The proxies, with who logs in there, for us alone.
    pub(super) fn whole_proxies(&self) -> impl Iterator<Item = &Secret> {
        self.proxies.iter().map(|proxy| &proxy.whole)
    }

    /// Whether there is anybody to log in.
    pub(super) fn is_empty(&self) -> bool {
        self.mirrors.is_empty() && self.proxies.is_empty()
    }

    /// The file for APT.
    fn text(&self) -> String {
        let proxies = self.proxies.iter().map(|proxy| &proxy.entry);
        self.mirrors.iter().chain(proxies).map(|entry| format!("{entry}\n")).collect()
    }

    /// What mmdebstrap is told beside everything else; the file is in `folder`, as the namespace sees it.
    pub(super) fn arguments(&self, folder: &str) -> Vec<String> {
        if self.is_empty() {
            return Vec::new();
        }
        let file = format!("Dir::Etc::netrc \"{folder}/{FILE}\"");
        let settings = self.proxies().into_iter().chain([file.as_str()]);
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
        let command = area.command(host, &entry).env(format!("{ENV_PREFIX}SINDRI_APT_LOGIN"), self.text());
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

    /// The passwords, should a step show them.
    pub(super) fn passwords(&self) -> Vec<Secret> {
        let text = self.text();
        let words: Vec<&str> = text.split_whitespace().collect();
        let pairs = words.windows(2).filter(|pair| pair[0] == "password");
        pairs.map(|pair| Secret::new(pair[1])).collect()
    }

    /// A script that a tree's root runs, with the login taken out of its environment into the file first.
    pub(super) fn before(&self, script: &str) -> String {
        if self.is_empty() {
            return script.to_owned();
        }
        format!(
            "(umask 077 && printf %s \"$SINDRI_APT_LOGIN\" >{LENT})\nunset SINDRI_APT_LOGIN\n\
             /bin/ln -sfn {LENT} {LINK} 2>/dev/null || :\n{script}"
        )
    }

    /// The command that runs such a script; `settings` is a file with [`Self::settings`], as the tree sees it.
    pub(super) fn given(&self, command: Command, settings: &str) -> Command {
        if self.is_empty() {
            return command;
        }
        command
            .env(format!("{ENV_PREFIX}APT_CONFIG"), settings)
            .env(format!("{ENV_PREFIX}SINDRI_APT_LOGIN"), self.text())
    }

    /// What a step's APT is told beside its own settings: proxies, without who logs in there.
    pub(super) fn settings(&self) -> String {
        self.proxies.iter().map(|proxy| format!("{};\n", proxy.setting)).collect()
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
        private::write(&path, self.text().as_bytes()).map_err(BuildError::io("write", &path))?;
        Ok(Some(format!("Dir::Etc::netrc={}", path.display())))
    }
}

/// The entries of a file, each in one line: `machine HOST login USER password PASSWORD`.
fn entries(text: &str) -> Vec<String> {
    let mut entries: Vec<Vec<&str>> = Vec::new();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    for word in lines.flat_map(str::split_whitespace) {
        match entries.last_mut() {
            _ if word == "machine" => entries.push(vec![word]),
            Some(entry) => entry.push(word),
            None => {}
        }
    }
    entries.iter().map(|entry| entry.join(" ")).collect()
}

/// The host of `http://host:80/path`, of which it may be all that is there.
fn host(address: &str) -> String {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let port =
        authority.rfind(':').filter(|at| authority[at + 1..].bytes().all(|byte| byte.is_ascii_digit()));
    authority[..port.unwrap_or(authority.len())].to_ascii_lowercase()
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
    let entry = format!("machine {scheme}://{proxy} login {user} password {password}");
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
            ("http://a:b@proxy:3128", "http://proxy:3128", "machine http://proxy:3128 login a password b"),
            ("https://a:b%40c@p/", "https://p/", "machine https://p login a password b@c"),
            ("http://a:b:c@[::1]:1/", "http://[::1]:1/", "machine http://[::1]:1 login a password b:c"),
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
    fn a_steps_apt_gets_the_login_and_its_arguments_do_not() {
        let mut login = Login::default();
        assert_eq!(login.before("exec it"), "exec it");
        login.take_proxy("Acquire::http::Proxy \"http://user:canary@proxy:3128\"");
        login.mirrors.extend(entries("machine m\n  login a\n  password second\n"));
        assert_eq!(login.passwords(), ["second", "canary"].map(Secret::new));
        assert_eq!(login.at_mirrors().passwords(), [Secret::new("second")]);
        assert_eq!(login.settings(), "Acquire::http::Proxy \"http://proxy:3128\";\n");
        let script = login.before("exec it");
        assert!(script.ends_with("\nexec it") && !script.contains("canary"), "{script}");
        let command = login.given(Command::new("enter").arg(&script), "/run/sindri/apt.conf");
        assert!(!format!("{:?}", command.args).contains("canary"));
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
        let mut login = Login::of_host(dir.path(), &log);
        let entry = |name: &str| format!("machine {name} login a password b\n");
        assert_eq!(login.text(), ["one", "two", "three"].map(entry).concat());
        login.keep(&[
            "http://TWO:3142/debian".to_owned(),
            "https://three".to_owned(),
            "http://on".to_owned(),
        ]);
        assert_eq!(login.text(), ["two", "three"].map(entry).concat());
        let folder = dir.path().join("f");
        fs::create_dir(&folder).unwrap();
        let option = login.option(&folder).unwrap().unwrap();
        let file = option.strip_prefix("Dir::Etc::netrc=").unwrap();
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(file).unwrap(), login.text());
    }

    #[test]
    fn hosts_of_mirrors_and_of_entries() {
        for (address, expected) in [
            ("m.example", "m.example"),
            ("M.example:80/debian", "m.example"),
            ("https://m.example/a:1", "m.example"),
            ("tor+http://m.example:1", "m.example"),
            ("http://[::1]:3142/", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(host(address), expected, "{address}");
        }
    }
}
