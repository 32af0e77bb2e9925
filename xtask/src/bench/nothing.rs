//! An image from nothing, without verify, against what cannot be left out: mmdebstrap with the same
//! packages, and making a disk of its tree with mke2fs and qemu-img.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::contestant::Contestants;
use super::measure::{Row, seconds};

pub(crate) fn run(contestants: &Contestants) -> Result<Vec<Row>> {
    let suite = acceptance_tests::suite()?;
    let configuration = format!(
        "resource \"sindri_image\" \"nothing\" {{\n  name_prefix = \"bench-nothing\"\n  cache = false\n  qemu = {{\n    base = {{ bootstrap = {{ suite = \"{suite}\" }} }}\n    disk_size_gb = 4\n  }}\n}}\n"
    );
    let workspace = contestants.workspace(&contestants.ours, &configuration)?;
    let empty = tempfile::Builder::new().prefix("cache-").tempdir_in(contestants.scratch())?;
    let workspace = workspace.with_cache(empty.path().to_owned());
    let watch = Watch::start();
    let ours = seconds(|| workspace.run(&["apply", "-auto-approve"]).map(drop));
    let packages = watch.packages();
    let ours = ours?;
    workspace.run(&["destroy", "-auto-approve"])?;
    let packages = packages.context("mmdebstrap was never seen running")?;

    // Again, now that the tree is cached: what is left is the disk.
    let disk = seconds(|| workspace.run(&["apply", "-auto-approve"]).map(drop))?;
    workspace.run(&["destroy", "-auto-approve"])?;

    let area = tempfile::Builder::new().prefix("bare-").tempdir()?;
    // mmdebstrap's mapped root, who is not us, writes here.
    fs::set_permissions(area.path(), fs::Permissions::from_mode(0o1777))?;
    let bootstrap = seconds(|| bare_bootstrap(area.path(), &suite, &packages))?;
    let making = seconds(|| bare_disk(area.path()))?;
    remove(area.path())?;
    let row = |name: &str, ours, other, aim| Row { name: name.into(), ours, other, unit: "s", aim };
    Ok(vec![
        row("image from nothing, against bare tools", ours, bootstrap + making, "≤ 1.10×"),
        row("disk of a cached tree, against bare tools", disk, making, "< 14 s"),
    ])
}

fn bare_bootstrap(area: &Path, suite: &str, packages: &str) -> Result<()> {
    let tree = area.join("tree");
    let mut command = Command::new("mmdebstrap");
    command.args(["--mode=unshare", "--variant=minbase", "--format=directory", "--dpkgopt=force-unsafe-io"]);
    command.arg(format!("--include={packages}")).arg(suite).arg(tree);
    finish(command)
}

fn bare_disk(area: &Path) -> Result<()> {
    let mut command = Command::new("mmdebstrap");
    command.args(["--unshare-helper", "mke2fs", "-q", "-t", "ext4", "-d"]);
    command.args([area.join("tree"), area.join("disk.raw")]).arg("4G");
    finish(command)?;
    let mut command = Command::new("qemu-img");
    command.args(["convert", "-c", "-f", "raw", "-O", "qcow2"]);
    command.args([area.join("disk.raw"), area.join("disk.qcow2")]);
    finish(command)
}

/// The tree belongs to mapped users, so only they can remove it.
fn remove(area: &Path) -> Result<()> {
    let mut command = Command::new("mmdebstrap");
    command.args(["--unshare-helper", "rm", "-rf"]).args([area.join("tree"), area.join("disk.raw")]);
    finish(command)
}

fn finish(mut command: Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {name}"))?;
    ensure!(output.status.success(), "{name} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Looks for a running mmdebstrap, to read which packages it was asked for.
struct Watch {
    stop: mpsc::Sender<()>,
    thread: std::thread::JoinHandle<Option<String>>,
}

impl Watch {
    fn start() -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            loop {
                if let Some(packages) = running_mmdebstrap() {
                    return Some(packages);
                }
                if stopped.recv_timeout(Duration::from_millis(200)) != Err(mpsc::RecvTimeoutError::Timeout) {
                    return None;
                }
            }
        });
        Watch { stop, thread }
    }

    fn packages(self) -> Option<String> {
        drop(self.stop);
        self.thread.join().ok().flatten()
    }
}

fn running_mmdebstrap() -> Option<String> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|process| fs::read_to_string(process.path().join("cmdline")).ok()).find_map(|line| {
        let mut arguments = line.split('\0');
        let is_it = arguments.clone().take(2).any(|one| one.ends_with("/mmdebstrap") || one == "mmdebstrap");
        arguments.find_map(|one| one.strip_prefix("--include=")).filter(|_| is_it).map(str::to_owned)
    })
}
