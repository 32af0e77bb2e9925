//! The mounts inside the namespaces: the overlay, and what packages and scripts expect of a running system.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_bind, move_mount, open_tree,
    unmount,
};
use rustix::process::{fchdir, pivot_root};

use super::{AREA, Entry, Network, OVERLAY, ROOT, Tree, wrap};

/// Answers that no service may be started: the tree is no running system.
const POLICY: &str = "#!/bin/sh\n# Made for the time of an image build.\nexit 101\n";

/// Device nodes that a tree sees; they cannot be made in a user namespace, so they are the host's.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// Files that were put into the tree for the time of one program, removed when dropped.
pub(super) struct Guests(Vec<(PathBuf, Vec<u8>)>);

impl Drop for Guests {
    fn drop(&mut self) {
        for (path, content) in &self.0 {
            // A step that put its own file there keeps it.
            if fs::read(path).is_ok_and(|now| now == *content) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// A `/proc` that shows the namespace's processes only.
pub(super) fn proc_of_own(target: &Path) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", target, "proc", flags, None).map_err(|error| wrap("a /proc of its own", error.into()))
}

/// What a tree gets of the host: mounts that have no place yet.
struct Lent {
    system: OwnedFd,
    devices: Vec<(&'static str, OwnedFd)>,
    stage: Option<OwnedFd>,
    /// Where names are resolved.
    resolver: Option<Vec<u8>>,
}

impl Lent {
    fn of_host(tree: &Tree, entry: &Entry) -> io::Result<Self> {
        let device = |name: &&'static str| Ok((*name, detached(&Path::new("/dev").join(name))?));
        let stage = tree.stage.as_ref().map(|stage| detached(&Path::new(AREA).join(stage)));
        Ok(Self {
            system: detached(Path::new("/sys"))?,
            devices: DEVICES.iter().map(device).collect::<io::Result<_>>()?,
            stage: stage.transpose()?,
            resolver: match entry.network {
                Network::Host => fs::read("/etc/resolv.conf").ok(),
                Network::Nothing | Network::Served(_) => None,
            },
        })
    }
}

/// Lays the tree together and, for a program that runs inside it, makes it the root, with what a system has.
pub(super) fn lay(tree: &Tree, entry: &Entry) -> io::Result<Guests> {
    let root = Path::new(AREA).join(&tree.root);
    overlay(tree, &root)?;
    if !entry.chroot {
        return Ok(Guests(Vec::new()));
    }
    let lent = Lent::of_host(tree, entry)?;
    // First, so that a link which a step has left in the tree leads nowhere else.
    become_root(&root)?;
    place(&lent.system, "/sys")?;
    devices(&lent.devices)?;
    tmpfs("/run", "mode=0755")?;
    fs::create_dir_all("/run/lock")?;
    if let Some(stage) = &lent.stage {
        fs::create_dir("/run/sindri")?;
        place(stage, "/run/sindri")?;
    }
    let mut guests = Guests(Vec::new());
    put(Path::new("/usr/sbin/policy-rc.d"), POLICY.as_bytes(), 0o755, &mut guests)?;
    if let Some(host) = &lent.resolver {
        resolver(host, &mut guests)?;
    }
    Ok(guests)
}

/// The tree becomes the root of these namespaces and of us, their process 1; nothing of the host's files stays in them.
fn become_root(root: &Path) -> io::Result<()> {
    let failed = |error: rustix::io::Errno| wrap(ROOT, error.into());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let old = rustix::fs::open("/", flags, Mode::empty()).map_err(failed)?;
    std::env::set_current_dir(root)?;
    // The old root then lies over the new one, and needs no folder in it: pivot_root(2).
    pivot_root(".", ".").map_err(failed)?;
    // A new /proc may only be had where there is one.
    proc_of_own(Path::new("/proc"))?;
    fchdir(&old).map_err(failed)?;
    unmount(".", UnmountFlags::DETACH).map_err(failed)?;
    std::env::set_current_dir("/")
}

fn overlay(tree: &Tree, root: &Path) -> io::Result<()> {
    let inside = |path: &Path| Path::new(AREA).join(path).display().to_string();
    // The tree's top folder is the upper one: made here, it belongs to the namespace's root.
    for folder in [&tree.upper, &tree.scratch] {
        DirBuilder::new().recursive(true).mode(0o755).create(inside(folder))?;
    }
    let options = format!(
        "userxattr,lowerdir={},upperdir={},workdir={}",
        inside(&tree.layer),
        inside(&tree.upper),
        inside(&tree.scratch)
    );
    let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
    mount("overlay", root, "overlay", MountFlags::empty(), options.as_c_str())
        .map_err(|error| wrap(OVERLAY, error.into()))
}

fn devices(lent: &[(&'static str, OwnedFd)]) -> io::Result<()> {
    tmpfs("/dev", "mode=0755")?;
    for (name, device) in lent {
        let node = format!("/dev/{name}");
        File::create(&node)?;
        place(device, &node)?;
    }
    fs::create_dir("/dev/shm")?;
    tmpfs("/dev/shm", "mode=1777")?;
    fs::create_dir("/dev/pts")?;
    mount("devpts", "/dev/pts", "devpts", MountFlags::NOSUID, c"newinstance,ptmxmode=0666,mode=620")
        .map_err(|error| wrap("/dev/pts", error.into()))?;
    for (link, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, Path::new("/dev").join(link))?;
    }
    Ok(())
}

/// Names are resolved as on the host. The tree's own setting comes back by itself: it is only covered.
fn resolver(host: &[u8], guests: &mut Guests) -> io::Result<()> {
    let inside = Path::new("/etc/resolv.conf");
    match fs::read_link(inside) {
        // A link into /run, which is a fresh one for the time of this program.
        Ok(target) => {
            let relative = target.to_string_lossy().trim_start_matches(['.', '/']).to_owned();
            if !relative.starts_with("run/") || relative.contains("..") {
                return Ok(());
            }
            let file = Path::new("/").join(relative);
            file.parent().map(fs::create_dir_all).transpose()?;
            fs::write(file, host)
        }
        Err(_) if inside.exists() => {
            let copy = Path::new("/run/resolv.conf");
            fs::write(copy, host)?;
            mount_bind(copy, inside).map_err(|error| wrap("/etc/resolv.conf", error.into()))
        }
        Err(_) => put(inside, host, 0o644, guests),
    }
}

/// Writes a file that is not there yet, to be removed again.
fn put(path: &Path, content: &[u8], mode: u32, guests: &mut Guests) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(mode).open(path) {
        Ok(mut file) => {
            io::Write::write_all(&mut file, content)?;
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            guests.0.push((path.to_owned(), content.to_vec()));
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn tmpfs(target: &str, options: &str) -> io::Result<()> {
    let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
    mount("tmpfs", target, "tmpfs", MountFlags::NOSUID, options.as_c_str())
        .map_err(|error| wrap(&format!("tmpfs at {target}"), error.into()))
}

/// A mount of its own of what is at `path`, with all that is mounted below, to be put into its [`place`] later.
fn detached(path: &Path) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags).map_err(|error| wrap(&path.display().to_string(), error.into()))
}

fn place(mount: &OwnedFd, target: &str) -> io::Result<()> {
    move_mount(mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|error| wrap(&format!("a mount at {target}"), error.into()))
}
