//! AMIs built on the rig's EC2: by us, and by the same Packer alone, from the template that we would give it. The machine
//! behind the builder says yes to everything, so that what is left is what each of the two does around it. Ours is what a
//! user waits for, with OpenTofu, whose own start, plan and state no provider can save: so what ours is held to is raw
//! Packer and, after it, an apply of another provider's resource that does nothing. EC2 itself takes its time for an image,
//! by either: once the rig does so, too.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use acceptance_tests::Moto;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::super::contestant::{Contestants, Workspace};
use super::super::measure::{Row, median, medians, seconds};
use super::super::plan;
use super::REGION;

/// How many are built at once.
const MANY: usize = 10;
/// How often memory is looked at. The kernel keeps the most that there was, so that no peak is missed but in the end.
const LOOK: Duration = Duration::from_millis(20);
const PAIR: &str = "of-the-bench";
/// The seconds that showing a template may take.
const SHOWN: f64 = 0.5;
/// How long EC2 takes to make an image, at the very least.
const MADE: Duration = Duration::from_secs(30);

pub(crate) fn run(contestants: &Contestants) -> Result<Vec<Row>> {
    let bench = Bench::new(contestants)?;
    let mut bare = Vec::new();
    let packer_and_tofu = || {
        let packer = bench.packers(1)?.taken;
        bare.push(packer);
        Ok(packer + bench.nothing()?)
    };
    let one = medians(3, || Ok(bench.ours(1)?.taken), packer_and_tofu)?;
    let bare = (one.0, median(bare));
    let requests = (bench.ours(1)?.requests, bench.packers(1)?.requests);
    let shown = medians(3, || bench.showing(), || Ok(SHOWN))?;
    bench.moto.images_take(MADE, None)?;
    let real = medians(3, || Ok(bench.ours(1)?.taken), || Ok(bench.packers(1)?.taken))?;
    bench.moto.images_take(Duration::ZERO, None)?;
    // The most of all runs.
    let (mut provider, mut packer) = (0.0_f64, 0.0_f64);
    let ours = || {
        let run = bench.ours(MANY)?;
        provider = provider.max(run.peak);
        Ok(run.taken)
    };
    let other = || {
        let run = bench.packers(MANY)?;
        packer = packer.max(run.peak);
        Ok(run.taken)
    };
    let many = medians(3, ours, other)?;
    let row = |name: &str, (ours, other), unit, aim| Row { name: name.to_owned(), ours, other, unit, aim };
    Ok(vec![
        row("an AMI on the rig, against Packer and tofu", one, "s", "≤ 1.10×"),
        row("an AMI on the rig, against raw Packer", bare, "s", ""),
        row("a template shown and validated, against 0.5 s", shown, "s", "≤ 1.00×"),
        row("requests for an AMI, against raw Packer's", requests, "", ""),
        row("an AMI that EC2 takes 30 s to make, the same", real, "s", "≤ 1.10×"),
        row("10 AMIs at once, against 10 raw Packers", many, "s", ""),
        row("provider's peak then, against one Packer's", (provider, packer), "MiB", ""),
    ])
}

/// What builds took.
struct Run {
    /// Seconds.
    taken: f64,
    /// The most memory that the provider, or one Packer, had, in MiB.
    peak: f64,
    /// How often AWS was asked for anything.
    requests: f64,
}

/// The rig, a machine, and what both builds start from.
struct Bench<'a> {
    contestants: &'a Contestants,
    moto: Moto,
    machine: Machine,
    packer: PathBuf,
    source: String,
    group: String,
    key: PathBuf,
}

impl<'a> Bench<'a> {
    fn new(contestants: &'a Contestants) -> Result<Self> {
        let moto = Moto::start()?;
        let source = moto.image("a-source")?;
        let described = [("GroupName", "bench"), ("GroupDescription", "bench")];
        let made = moto.ec2("CreateSecurityGroup", &described)?;
        let group = made.split_once("<groupId>").and_then(|(_, rest)| rest.split_once("</groupId>"));
        let group = group.map(|(id, _)| id.to_owned()).context("no group")?;
        moto.ec2("CreateKeyPair", &[("KeyName", PAIR)])?;
        let key = contestants.scratch().join("bench-key");
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status()?;
        ensure!(made.success(), "ssh-keygen failed");
        let (machine, packer) = (Machine::start()?, acceptance_tests::built_tool("packer")?);
        Ok(Self { contestants, moto, machine, packer, source, group, key })
    }

    /// A workspace of ours, which reaches nothing but the rig.
    fn workspace(&self, text: &str) -> Result<Workspace> {
        let Self { contestants, moto, packer, .. } = self;
        let provider = format!(
            "provider \"sindri\" {{\n  aws = {{ region = {REGION:?}, endpoint_url = {:?} }}\n  packer = {{ binary = {packer:?} }}\n}}\n",
            moto.url()
        );
        Ok(contestants.workspace(&contestants.ours, &(provider + text))?.served_by(moto))
    }

    /// What describes the image, for ours and for what is shown of it.
    fn image(&self) -> String {
        format!(
            r#"  aws = {{
    source_image  = {:?}
    ssh_host      = "127.0.0.1"
    ssh_port      = {}
    allowed_cidrs = ["203.0.113.7/32"]
    encrypt_boot  = false
  }}
  provision = [{{ inline = ["true"] }}]
"#,
            self.source, self.machine.port
        )
    }

    /// So many builds of ours.
    fn ours(&self, count: usize) -> Result<Run> {
        let workspace = self.workspace(&format!(
            "resource \"sindri_image\" \"it\" {{\n  count       = {count}\n  name_prefix = \"bench-${{count.index}}\"\n{}}}\n",
            self.image()
        ))?;
        self.moto.forget_requests()?;
        let (taken, peak) = thread::scope(|scope| {
            let applied = scope.spawn(|| seconds(|| workspace.run(&["apply", "-auto-approve"]).map(drop)));
            let mut peak = 0.0_f64;
            while !applied.is_finished() {
                peak = peak.max(providers_peak(self.contestants.scratch()));
                thread::sleep(LOOK);
            }
            (applied.join(), peak)
        });
        let taken = taken.ok().context("the apply panicked")??;
        let requests = self.requests()?;
        workspace.run(&["destroy", "-auto-approve"])?;
        Ok(Run { taken, peak, requests })
    }

    /// Seconds that OpenTofu takes to apply what nobody does anything for.
    fn nothing(&self) -> Result<f64> {
        let peer = &self.contestants.peer;
        let workspace = self.contestants.workspace(peer, &plan::images(peer.name, 1))?;
        let taken = seconds(|| workspace.run(&["apply", "-auto-approve"]).map(drop))?;
        workspace.run(&["destroy", "-auto-approve"])?;
        Ok(taken)
    }

    /// So many Packers that run at once.
    fn packers(&self, count: usize) -> Result<Run> {
        let scratch = self.contestants.scratch();
        let folder = tempfile::Builder::new().prefix("raw-").tempdir_in(scratch)?;
        let shown = self.shown()?;
        let folders: Vec<PathBuf> = (0..count).map(|number| folder.path().join(number.to_string())).collect();
        for (number, folder) in folders.iter().enumerate() {
            self.lay_out(folder, &shown, number)?;
        }
        let mut peak = 0.0_f64;
        self.moto.forget_requests()?;
        let taken = seconds(|| {
            let started = folders.iter().map(|folder| self.packer(folder)).collect::<Result<Vec<_>>>();
            for (mut packer, folder) in started?.into_iter().zip(&folders) {
                let status = loop {
                    peak = peak.max(peak_of(&format!("/proc/{}", packer.id())));
                    match packer.try_wait()? {
                        Some(status) => break status,
                        None => thread::sleep(LOOK),
                    }
                };
                let said = fs::read_to_string(folder.join("log")).unwrap_or_default();
                ensure!(status.success(), "packer build failed:\n{said}");
            }
            Ok(())
        })?;
        Ok(Run { taken, peak, requests: self.requests()? })
    }

    /// How often AWS was asked since the count began.
    fn requests(&self) -> Result<f64> {
        let counts = self.moto.requests()?;
        Ok(f64::from(u32::try_from(counts.values().sum::<u64>())?))
    }

    /// Seconds until a template is rendered and Packer has said what it thinks of it, with OpenTofu.
    fn showing(&self) -> Result<f64> {
        let workspace = self.showing_workspace()?;
        seconds(|| workspace.run(&["plan"]).map(drop))
    }

    /// What we would give Packer.
    fn shown(&self) -> Result<Value> {
        let workspace = self.showing_workspace()?;
        workspace.run(&["apply", "-auto-approve"])?;
        serde_json::from_str(&workspace.run(&["output", "-json", "shown"])?).context("no JSON is shown")
    }

    fn showing_workspace(&self) -> Result<Workspace> {
        self.workspace(&format!(
            "data \"sindri_template\" \"it\" {{\n  name_prefix = \"bench\"\n  validate    = true\n{}}}\noutput \"shown\" {{ value = data.sindri_template.it }}\n",
            self.image()
        ))
    }

    /// A folder for Packer, with what only a build would have.
    fn lay_out(&self, folder: &Path, shown: &Value, number: usize) -> Result<()> {
        let text = |value: &Value| value.as_str().map(str::to_owned).context("nothing is shown");
        let mut variables: Value = serde_json::from_str(&text(&shown["variables"])?)?;
        variables["image_name"] =
            json!(format!("raw-{number}-{}", folder.display()).replace(['/', '.'], "-"));
        variables["security_group_ids"] = json!([self.group]);
        variables["ssh_keypair_name"] = json!(PAIR);
        variables["ssh_key_file"] = json!(self.key);
        variables["volume"]["device"] = json!("/dev/xvda");
        fs::create_dir_all(folder.join("template"))?;
        fs::create_dir_all(folder.join("parts"))?;
        fs::write(folder.join("template/image.pkr.hcl"), text(&shown["hcl"])?)?;
        fs::write(folder.join("template/values.auto.pkrvars.json"), variables.to_string())?;
        for script in shown["scripts"].as_array().into_iter().flatten() {
            fs::write(folder.join(text(&script["file"])?), text(&script["content"])?)?;
        }
        Ok(())
    }

    fn packer(&self, folder: &Path) -> Result<Child> {
        let log = fs::File::create(folder.join("log"))?;
        Command::new(&self.packer)
            .args(["build", "-color=false", "template"])
            .current_dir(folder)
            .envs(self.moto.environment())
            .env("CHECKPOINT_DISABLE", "1")
            .env("PACKER_CONFIG_DIR", folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting packer")
    }
}

/// The machine behind every builder. Dropping it ends its process.
struct Machine {
    process: Child,
    port: u16,
}

impl Machine {
    fn start() -> Result<Self> {
        let mut process = Command::new(acceptance_tests::built_tool("machine")?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the machine")?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("no output")?).read_line(&mut line)?;
        Ok(Self { process, port: line.trim().parse().context("no port")? })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// The most memory that a provider has had that was started from this folder, in MiB; 0 when there is none.
fn providers_peak(scratch: &Path) -> f64 {
    let prefix = scratch.display().to_string();
    let is_ours = |process: &Path| {
        let line = fs::read_to_string(process.join("cmdline")).unwrap_or_default();
        line.starts_with(&prefix) && line.trim_end_matches('\0').ends_with("terraform-provider-sindri")
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let ours = processes.filter(|process| is_ours(process));
    ours.map(|process| peak_of(&process.display().to_string())).fold(0.0, f64::max)
}

/// The most memory that a process has had, in MiB; 0 when it is gone.
fn peak_of(process: &str) -> f64 {
    let status = fs::read_to_string(format!("{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}
