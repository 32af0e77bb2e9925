//! From `apply` to a login over SSH in a VM, against the same QEMU with the same arguments started by hand, and
//! OpenSSH's client as soon as the guest's server speaks.

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::contestant::{Contestants, Workspace};
use super::measure::{Row, medians, seconds};

const TIMES: usize = 5;

pub(crate) fn run(contestants: &Contestants) -> Result<Vec<Row>> {
    let suite = acceptance_tests::suite()?;
    let image = format!(
        "resource \"sindri_image\" \"bench\" {{\n  name_prefix = \"bench\"\n  qemu = {{ base = {{ bootstrap = {{ suite = \"{suite}\" }} }} }}\n}}\noutput \"id\" {{ value = sindri_image.bench.image_id }}\n"
    );
    let image = contestants.workspace(&contestants.ours, &image)?;
    image.run(&["apply", "-auto-approve"])?;
    let id = image.run(&["output", "-raw", "id"])?;
    let by_hand = ByHand::prepare(contestants, &id)?;
    let applied = || {
        let workspace = contestants.workspace(&contestants.ours, &vm(&id, "running"))?;
        let taken = seconds(|| workspace.run(&["apply", "-auto-approve"]).map(drop))?;
        workspace.run(&["destroy", "-auto-approve"])?;
        Ok(taken)
    };
    let measured = medians(TIMES, applied, || by_hand.boot(contestants.scratch()));
    image.run(&["destroy", "-auto-approve"])?;
    let (ours, other) = measured?;
    let name = "apply to SSH of a VM, against QEMU by hand".to_owned();
    Ok(vec![Row { name, ours, other, unit: "s", aim: "at most 1 s more" }])
}

fn vm(image_id: &str, power_state: &str) -> String {
    format!(
        "resource \"sindri_vm\" \"bench\" {{\n  name = \"bench\"\n  image_id = \"{image_id}\"\n  power_state = \"{power_state}\"\n  qemu = {{}}\n}}\n"
    )
}

/// A VM's files as they were before its first boot, and the command that our provider starts it with.
struct ByHand {
    _workspace: Workspace,
    folder: PathBuf,
    arguments: Vec<String>,
    port: u16,
    username: String,
}

impl ByHand {
    fn prepare(contestants: &Contestants, image_id: &str) -> Result<Self> {
        let workspace = contestants.workspace(&contestants.ours, &vm(image_id, "stopped"))?;
        workspace.run(&["apply", "-auto-approve"])?;
        let state: Value = serde_json::from_str(&workspace.run(&["show", "-json"])?)?;
        let values = &state["values"]["root_module"]["resources"][0]["values"];
        let id = values["id"].as_str().context("the VM has no id")?;
        let port =
            values["ssh_port"].as_u64().and_then(|port| port.try_into().ok()).context("no SSH port")?;
        let username = values["ssh_username"].as_str().context("no user name")?.to_owned();
        let vms = contestants.data_dir().join("vms");
        let folder = contestants.scratch().join("by-hand");
        copy(&vms.join(id), &folder)?;

        workspace.rewrite(&vm(image_id, "running"))?;
        workspace.run(&["apply", "-auto-approve"])?;
        let arguments = arguments_of(&vms.join(id))?;
        // What is made at the first start, the firmware's variables, has no state of a disk.
        for entry in fs::read_dir(vms.join(id))? {
            let (from, to) = {
                let entry = entry?;
                (entry.path(), folder.join(entry.file_name()))
            };
            if from.extension().is_some_and(|extension| extension == "fd") && !to.exists() {
                copy(&from, &to)?;
            }
        }
        workspace.run(&["destroy", "-auto-approve"])?;
        Ok(ByHand { _workspace: workspace, folder, arguments, port, username })
    }

    /// Seconds from the start of QEMU to the end of a first command over SSH, on a fresh copy.
    fn boot(&self, scratch: &Path) -> Result<f64> {
        let copied = tempfile::Builder::new().prefix("boot-").tempdir_in(scratch)?;
        let folder = copied.path().join("vm");
        copy(&self.folder, &folder)?;
        let start = Instant::now();
        let mut qemu = Command::new(&self.arguments[0])
            .args(&self.arguments[1..])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("starting QEMU")?;
        let reached = wait_for_banner(&mut qemu, self.port).and_then(|()| self.log_in(&folder));
        let taken = start.elapsed().as_secs_f64();
        qemu.kill()?;
        qemu.wait()?;
        reached.map(|()| taken)
    }

    /// Logs in, as a person would who knows that the server speaks.
    fn log_in(&self, folder: &Path) -> Result<()> {
        let status = Command::new("ssh")
            .args([
                "-o",
                "BatchMode=yes",
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
            ])
            .args(["-o", "IdentitiesOnly=yes", "-F", "none", "-p", &self.port.to_string(), "-i"])
            .arg(folder.join("id_ed25519"))
            .arg(format!("{}@127.0.0.1", self.username))
            .arg("true")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("starting ssh")?;
        ensure!(status.success(), "ssh to QEMU by hand ended with {status}");
        Ok(())
    }
}

/// QEMU accepts connections before the guest does; only the banner tells.
fn wait_for_banner(qemu: &mut Child, port: u16) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(300);
    while Instant::now() < deadline {
        if let Some(status) = qemu.try_wait()? {
            bail!("QEMU by hand ended with {status}");
        }
        if let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            let mut banner = [0; 4];
            if stream.read_exact(&mut banner).is_ok() && &banner == b"SSH-" {
                return Ok(());
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("QEMU by hand never answered on port {port}")
}

/// The arguments of the QEMU that runs in this folder.
fn arguments_of(folder: &Path) -> Result<Vec<String>> {
    let folder = folder.canonicalize()?;
    for process in fs::read_dir("/proc")?.flatten() {
        let here = fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == folder);
        let line = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
        if here && line.contains("qemu-system") {
            return Ok(line.split_terminator('\0').map(str::to_owned).collect());
        }
    }
    bail!("no QEMU runs in {}", folder.display())
}

/// With owners and times: QEMU may run as another user than ours.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-a").args([from, to]).status().context("starting cp")?;
    ensure!(status.success(), "cp -a {} failed", from.display());
    Ok(())
}
