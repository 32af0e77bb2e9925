//! The mounts inside the namespaces: the overlay, and what packages and scripts expect of a running system.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount, mount_bind, mount_bind_recursive};

use super::{AREA, Entry, Tree, wrap};

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

/// Lays the tree together and, for a program that runs inside it, mounts what a system has.
pub(super) fn lay(tree: &Tree, entry: &Entry) -> io::Result<Guests> {
    let root = Path::new(AREA).join(&tree.root);
    if let Some(layer) = &tree.layer {
        overlay(tree, layer, &root)?;
    }
    if !entry.chroot {
        return Ok(Guests(Vec::new()));
    }
    proc_of_own(&root.join("proc"))?;
    mount_bind_recursive("/sys", root.join("sys")).map_err(|error| wrap("/sys", error.into()))?;
    devices(&root.join("dev"))?;
    tmpfs(&root.join("run"), "mode=0755")?;
    fs::create_dir_all(root.join("run/lock"))?;
    if let Some(stage) = &tree.stage {
        let target = root.join("run/sindri");
        fs::create_dir(&target)?;
        bind(&Path::new(AREA).join(stage), &target)?;
    }
    let mut guests = Guests(Vec::new());
    put(&root.join("usr/sbin/policy-rc.d"), POLICY.as_bytes(), 0o755, &mut guests)?;
    if entry.network {
        resolver(&root, &mut guests)?;
    }
    Ok(guests)
}

fn overlay(tree: &Tree, layer: &Path, root: &Path) -> io::Result<()> {
    let inside = |path: &Path| Path::new(AREA).join(path).display().to_string();
    // The tree's top folder is the upper one: made here, it belongs to the namespace's root.
    for folder in [&tree.upper, &tree.scratch] {
        DirBuilder::new().recursive(true).mode(0o755).create(inside(folder))?;
    }
    let options = format!(
        "userxattr,lowerdir={},upperdir={},workdir={}",
        inside(layer),
        inside(&tree.upper),
        inside(&tree.scratch)
    );
    let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
    mount("overlay", root, "overlay", MountFlags::empty(), options.as_c_str())
        .map_err(|error| wrap("an overlay over the layer", error.into()))
}

fn devices(dev: &Path) -> io::Result<()> {
    tmpfs(dev, "mode=0755")?;
    for name in DEVICES {
        let node = dev.join(name);
        File::create(&node)?;
        bind(&Path::new("/dev").join(name), &node)?;
    }
    fs::create_dir(dev.join("shm"))?;
    tmpfs(&dev.join("shm"), "mode=1777")?;
    fs::create_dir(dev.join("pts"))?;
    mount("devpts", dev.join("pts"), "devpts", MountFlags::NOSUID, c"newinstance,ptmxmode=0666,mode=620")
        .map_err(|error| wrap("/dev/pts", error.into()))?;
    for (link, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, dev.join(link))?;
    }
    Ok(())
}

/// Names are resolved as on the host. The tree's own setting comes back by itself: it is only covered.
fn resolver(root: &Path, guests: &mut Guests) -> io::Result<()> {
    let Ok(host) = fs::read("/etc/resolv.conf") else { return Ok(()) };
    let inside = root.join("etc/resolv.conf");
    match fs::read_link(&inside) {
        // A link into /run, which is a fresh one for the time of this program.
        Ok(target) => {
            let relative = target.to_string_lossy().trim_start_matches(['.', '/']).to_owned();
            if !relative.starts_with("run/") || relative.contains("..") {
                return Ok(());
            }
            let file = root.join(relative);
            file.parent().map(fs::create_dir_all).transpose()?;
            fs::write(file, host)
        }
        Err(_) if inside.exists() => {
            let copy = root.join("run/resolv.conf");
            fs::write(&copy, host)?;
            bind(&copy, &inside)
        }
        Err(_) => put(&inside, &host, 0o644, guests),
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

fn tmpfs(target: &Path, options: &str) -> io::Result<()> {
    let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
    mount("tmpfs", target, "tmpfs", MountFlags::NOSUID, options.as_c_str())
        .map_err(|error| wrap(&format!("tmpfs at {}", target.display()), error.into()))
}

fn bind(source: &Path, target: &Path) -> io::Result<()> {
    mount_bind(source, target).map_err(|error| wrap(&source.display().to_string(), error.into()))
}
