//! `terraform-provider-sindri enter JSON`: runs a program as the root of a user namespace, with mounts, process
//! ids, IPC and host name of its own, and if asked inside a file tree, without network, or with one that ends at us.
//!
//! It runs in three hops, each our own binary: [`Hop::Host`] gets into a user namespace (as root by writing the
//! map, as an ordinary user through `mmdebstrap --unshare-helper`, which distributions allow where their AppArmor
//! stops other programs), [`Hop::Inside`] leaves the host's namespaces, [`Hop::First`] is process 1 of the new
//! ones: it mounts, runs the program, and takes everything with it when it ends.
//!
//! The current folder becomes [`AREA`] inside: what lies above it may be closed to the namespace's root. A program inside a
//! tree has neither that folder nor the host's files: the tree is then the root of process 1 and of the mounts, too, for
//! `/proc/1` shows a process's root, folder and open files to all that the namespace's root runs.
//! Knows nothing of images.

mod mounts;
mod served;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountPropagationFlags, mount_bind_recursive, mount_change};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

pub use self::served::{Door, PORT};
use super::command::PROXIES;
use super::run::code;

/// Where the current folder appears inside.
pub const AREA: &str = "/mnt";

/// The first host user id of the 65,536 that a root provider maps: the end of the range that systemd leaves to
/// containers, so that root inside is nobody on the host (<https://systemd.io/UIDS-GIDS/>).
pub const ROOT_MAP_START: u32 = 0x6FFF_0000;

/// Variables with this prefix reach the program, without it. No other variable does, so that what a user sets for
/// a step (`LD_PRELOAD`, `PATH`) never acts on the programs that prepare it.
pub const ENV_PREFIX: &str = "SINDRI_STEP_";

/// The exit code when the namespaces or mounts could not be had, beside a line that begins with [`REFUSED`].
pub const REFUSED_CODE: i32 = 125;

/// What a line about namespaces that could not be had begins with.
pub const REFUSED: &str = "sindri: namespaces refused: ";

/// What such a line says when the layer and what changes could not be laid together.
pub const OVERLAY: &str = "an overlay over the layer";

/// What it says when the tree could not become the root.
pub const ROOT: &str = "the tree as the root";

/// What to run, and in what surroundings. Paths are relative to the current folder unless they say otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// How far we are; callers pass [`Hop::Host`].
    pub hop: Hop,
    /// A tree to lay together first.
    pub tree: Option<Tree>,
    /// Run the program inside the tree, which is then all there is, with `/proc`, `/dev`, `/sys` and an empty `/run`.
    pub chroot: bool,
    /// What the program sees of networks.
    pub network: Network,
    /// A new file to write the program's exit code to: not every way in hands it through.
    pub status: Option<PathBuf>,
    /// The program as the namespace sees it; none to see whether the surroundings can be had.
    pub program: Option<String>,
    /// Its arguments.
    pub args: Vec<String>,
}

/// What a program sees of networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The host's.
    Host,
    /// None.
    Nothing,
    /// One of its own, in which somebody outside serves [`PORT`] of its loopback address: who waits at this [`Door`].
    Served(PathBuf),
}

/// The hops of the way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hop {
    /// On the host.
    Host,
    /// Root of the user namespace.
    Inside,
    /// Process 1 of the new namespaces.
    First,
}

/// A file tree made of a layer that stays as it is and what changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// The layer.
    pub layer: PathBuf,
    /// Holds the changed files.
    pub upper: PathBuf,
    /// The overlay's own scratch folder, beside `upper`.
    pub scratch: PathBuf,
    /// Where the tree appears.
    pub root: PathBuf,
    /// A folder shown as `/run/sindri` in the tree. Who must not write there is kept from it by the folder's mode.
    pub stage: Option<PathBuf>,
}

impl Entry {
    /// A program in the namespaces, outside any tree, with network.
    pub fn new(program: impl Into<String>) -> Self {
        Self { program: Some(program.into()), ..Self::nothing() }
    }

    /// The namespaces alone.
    pub fn nothing() -> Self {
        Self {
            hop: Hop::Host,
            tree: None,
            chroot: false,
            network: Network::Host,
            status: None,
            program: None,
            args: Vec::new(),
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// The argument that [`main`] reads.
    pub fn to_arg(&self) -> String {
        // A struct of strings, flags and UTF-8 paths always serialises; were a path not UTF-8, the empty argument
        // is refused by `main`.
        serde_json::to_string(self).unwrap_or_default()
    }

    fn hop(&self, hop: Hop) -> Self {
        Self { hop, ..self.clone() }
    }
}

/// Runs what the JSON argument describes and returns the exit code to end with.
pub fn main(args: impl IntoIterator<Item = OsString>) -> i32 {
    let entry = args.into_iter().next().and_then(|arg| serde_json::from_slice(arg.as_encoded_bytes()).ok());
    let Some(entry): Option<Entry> = entry else {
        report("the request cannot be read");
        return REFUSED_CODE;
    };
    let outcome = match entry.hop {
        Hop::Host => from_host(&entry),
        Hop::Inside => leave_host(&entry),
        Hop::First => as_first(&entry),
    };
    outcome.unwrap_or_else(|error| {
        report(&error.to_string());
        REFUSED_CODE
    })
}

fn report(what: &str) {
    let _ = writeln!(io::stderr(), "{REFUSED}{what}");
}

fn from_host(entry: &Entry) -> io::Result<i32> {
    if rustix::process::geteuid().is_root() {
        map_root()?;
        return leave_host(entry);
    }
    // The namespace's root may not be able to reach our binary by its path, so it runs it by an open descriptor.
    let me = rustix::fs::open("/proc/self/exe", OFlags::RDONLY, Mode::empty())?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&me);
    let mut helper = Command::new("mmdebstrap");
    helper.args(["--unshare-helper", &format!("/proc/self/fd/{fd}"), "enter"]);
    helper.arg(entry.hop(Hop::Inside).to_arg());
    Err(wrap("mmdebstrap --unshare-helper", helper.exec()))
}

/// Moves into a user namespace whose root is [`ROOT_MAP_START`] on the host. The map has to be written by a process
/// that stayed outside.
fn map_root() -> io::Result<()> {
    let script =
        r#"read -r go && echo "0 $2 65536" >"/proc/$1/uid_map" && echo "0 $2 65536" >"/proc/$1/gid_map""#;
    let mut mapper = Command::new("/bin/sh")
        .args(["-c", script, "sh", &std::process::id().to_string(), &ROOT_MAP_START.to_string()])
        .stdin(Stdio::piped())
        .spawn()?;
    let unshared = unshare(UnshareFlags::NEWUSER);
    let mut go = mapper.stdin.take();
    if unshared.is_ok() {
        go.as_mut().map(|pipe| pipe.write_all(b"go\n")).transpose()?;
    }
    drop(go);
    let mapped = mapper.wait()?;
    unshared.map_err(|error| wrap("a user namespace", error))?;
    if !mapped.success() {
        return Err(io::Error::other("the user namespace's map could not be written"));
    }
    rustix::thread::set_thread_groups(&[])?;
    let (gid, uid) = (rustix::process::Gid::ROOT, rustix::process::Uid::ROOT);
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

fn leave_host(entry: &Entry) -> io::Result<i32> {
    let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    if entry.network != Network::Host {
        flags |= UnshareFlags::NEWNET;
    }
    unshare(flags).map_err(|error| wrap("mount, process, IPC and host name namespaces", error))?;
    // The host's name is nothing for an image.
    rustix::system::sethostname(b"localhost")
        .map_err(|error| wrap("a host name of its own", error.into()))?;
    let private = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", private).map_err(|error| wrap("private mounts", error.into()))?;
    mount_bind_recursive(".", AREA).map_err(|error| wrap("the build's folder at /mnt", error.into()))?;
    std::env::set_current_dir(AREA)?;
    if let Network::Served(door) = &entry.network {
        served::hand_out(door).map_err(|error| wrap("a listener in a network of its own", error))?;
    }
    let mut first = Command::new("/proc/self/exe");
    first.arg("enter").arg(entry.hop(Hop::First).to_arg());
    super::supervise::die_with_parent(&mut first);
    let status = first.spawn()?.wait()?;
    Ok(code(status))
}

fn as_first(entry: &Entry) -> io::Result<i32> {
    mounts::proc_of_own(Path::new("/proc"))?;
    // Opened here: from inside a tree it cannot be reached.
    let fresh = |file| OpenOptions::new().write(true).create_new(true).open(Path::new(AREA).join(file));
    let status_file = entry.status.as_ref().map(fresh).transpose()?;
    let guard = entry.tree.as_ref().map(|tree| mounts::lay(tree, entry)).transpose()?;
    let Some(name) = &entry.program else { return Ok(0) };
    let mut program = Command::new(name);
    program.args(&entry.args).env_clear().envs(environment(entry, std::env::vars_os())).stdin(Stdio::null());
    let status = wait(&program.spawn().map_err(|error| wrap(name, error))?)?;
    drop(guard);
    if let Some(mut file) = status_file {
        file.write_all(code(status).to_string().as_bytes())?;
    }
    Ok(code(status))
}

/// The program's end, while orphans of the namespace are reaped.
fn wait(program: &Child) -> io::Result<ExitStatus> {
    let pid = program.id().cast_signed();
    loop {
        let any = rustix::process::wait(rustix::process::WaitOptions::empty());
        match any {
            Ok(Some((ended, status))) if ended.as_raw_pid() == pid => {
                return Ok(ExitStatus::from_raw(status.as_raw()));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What the program sees: the caller's prefixed variables over plain defaults and, where they are of use, the host's proxies.
fn environment(
    entry: &Entry,
    ours: impl Iterator<Item = (OsString, OsString)>,
) -> BTreeMap<OsString, OsString> {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let mut all: BTreeMap<OsString, OsString> = BTreeMap::from([
        ("PATH".into(), path.into()),
        ("HOME".into(), if entry.chroot { "/root" } else { "/" }.into()),
        ("LC_ALL".into(), "C.UTF-8".into()),
    ]);
    if entry.chroot {
        all.insert("DEBIAN_FRONTEND".into(), "noninteractive".into());
        all.insert("SYSTEMD_OFFLINE".into(), "1".into());
    }
    let mut told = Vec::new();
    for (name, value) in ours {
        let Some(text) = name.to_str() else { continue };
        if let Some(name) = text.strip_prefix(ENV_PREFIX) {
            told.push((name.into(), value));
        } else if PROXIES.contains(&text) && entry.network == Network::Host {
            all.insert(name, value);
        }
    }
    all.extend(told);
    all
}

#[expect(clippy::needless_pass_by_value, reason = "made for `map_err`")]
fn wrap(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// Leaves namespaces for new ones.
#[allow(unsafe_code)]
fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: the descriptor table is never unshared here (no `FILES`), so no borrowed descriptor changes meaning;
    // the process has one thread.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_step_is_told_wins_and_proxies_are_for_the_hosts_network() {
        let proxy = |network, told: Option<&str>| {
            let mut ours = vec![("http_proxy", "http://user:canary@host"), ("OTHER", "x")];
            ours.extend(told.map(|told| ("SINDRI_STEP_http_proxy", told)));
            // In whichever order they come.
            let seen = [ours.clone(), ours.into_iter().rev().collect()].map(|ours| {
                let entry = Entry { network: Network::clone(&network), ..Entry::new("x") };
                let ours = ours.into_iter().map(|(name, value)| (name.into(), value.into()));
                let mut seen = environment(&entry, ours);
                assert!(!seen.contains_key(std::ffi::OsStr::new("OTHER")));
                seen.remove(std::ffi::OsStr::new("http_proxy")).map(|it| it.into_string().unwrap_or_default())
            });
            assert_eq!(seen[0], seen[1]);
            seen[0].clone()
        };
        let host = Some("http://user:canary@host".to_owned());
        assert_eq!(proxy(Network::Host, None), host);
        assert_eq!(proxy(Network::Host, Some("own")), Some("own".to_owned()));
        assert_eq!(proxy(Network::Nothing, None), None);
        assert_eq!(proxy(Network::Served("door".into()), None), None);
        assert_eq!(proxy(Network::Served("door".into()), Some("own")), Some("own".to_owned()));
    }
}
