//! An account on the rig's EC2 in which images are really built: behind all of its instances is one guest.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::moto::element;
use crate::{Cli, Guest, Host, Moto, Running, Workspace, merged, within};

/// The image of the configuration `aws-build`.
pub const IMAGE: &str = "sindri_image.it";
/// As long as this is in the guest, something in it goes on.
pub const HOLD: &str = "/srv/hold";
/// What is removed is looked for several times.
pub const PATIENCE: Duration = Duration::from_secs(60);
const PAIR: &str = "of-the-user";

/// Ids of what there is, by kind.
pub type Inventory = BTreeMap<String, Vec<String>>;

/// An account with a source image and a key pair, and the machine behind its instances.
#[derive(Debug)]
pub struct Account {
    /// Its EC2.
    pub moto: Moto,
    source: String,
    /// What there was in the beginning.
    pub before: Inventory,
    // In this order: it is destroyed before its host's folder goes.
    _machine: Workspace,
    _host: Host,
    /// The machine.
    pub guest: Guest,
}

impl Account {
    /// Boots the machine, which takes a minute where it is emulated.
    ///
    /// # Errors
    /// When there is no machine or no EC2.
    pub fn new() -> Result<Self> {
        let host = Host::new()?;
        let machine = host.workspace(Cli::Tofu, "vm")?;
        machine.apply()?;
        let guest = machine.guest("sindri_vm.it")?;
        // Every build would wait for it, and every login would start a systemd of the user's: either takes an emulated
        // processor seconds.
        guest.run("sudo rm -f /usr/bin/cloud-init; sudo sed -i /pam_systemd/d /etc/pam.d/common-session")?;
        let moto = Moto::start()?;
        let source = moto.image("a-source")?;
        moto.ec2("CreateKeyPair", &[("KeyName", PAIR)])?;
        let before = moto.inventory()?;
        Ok(Account { moto, source, before, _machine: machine, _host: host, guest })
    }

    /// A workspace whose builds reach the machine; `more` are variables of the configuration `aws-build`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn workspace(&self, host: &Host, cli: Cli, more: Value) -> Result<Workspace> {
        let mut workspace = host.workspace(cli, "aws-build")?;
        self.moto.serve(&mut workspace);
        self.variables(&workspace, more)?;
        Ok(workspace)
    }

    /// A workspace whose image somebody else has built, which is found and in state: cleaned as images for everybody are, which
    /// would cost the machine. Returns its variables and the image, too.
    ///
    /// # Errors
    /// When it is not found.
    pub fn found(&self, host: &Host, marker: &str) -> Result<(Workspace, Value, String)> {
        let variables = json!({ "marker": marker, "verify_boot": true, "clean": true });
        let workspace = self.workspace(host, Cli::Tofu, variables.clone())?;
        let plan = workspace.plan()?;
        let planned = plan.change(IMAGE).context("nothing planned")?;
        let key = planned.after["cache_key"].as_str().context("no key")?;
        let id = self.moto.register("us-west-2", &format!("it-{marker}"), &[("sindri_key", key)])?;
        workspace.apply()?;
        Ok((workspace, variables, id))
    }

    /// Other variables for a workspace of [`Account::workspace`].
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn variables(&self, workspace: &Workspace, more: Value) -> Result<()> {
        let (address, port, user, key) = self.guest.login();
        let guest = json!({ "host": address, "port": port, "user": user, "key": key, "pair": PAIR });
        workspace.variables(&merged(json!({ "source_image": self.source, "guest": guest }), more))
    }

    /// An apply that goes on until [`Account::release`], from when its log has these words.
    ///
    /// # Errors
    /// When it ends before.
    pub fn amid(&self, host: &Host, more: Value, words: &str) -> Result<(Workspace, Running)> {
        self.guest.run(&format!("sudo touch {HOLD}"))?;
        let workspace = self.workspace(host, Cli::Tofu, more)?;
        let mut running = workspace.start_apply()?;
        says(host, &mut running, words)?;
        Ok((workspace, running))
    }

    /// What is held goes on.
    ///
    /// # Errors
    /// When the machine does not answer.
    pub fn release(&self) -> Result<()> {
        self.guest.run(&format!("sudo rm -f {HOLD}")).map(drop)
    }

    /// How many there are more than in the beginning, by kind.
    ///
    /// # Errors
    /// When the emulator does not answer.
    pub fn more(&self) -> Result<BTreeMap<String, usize>> {
        self.more_than(&self.before)
    }

    /// How many there are more than these.
    ///
    /// # Errors
    /// When the emulator does not answer.
    pub fn more_than(&self, these: &Inventory) -> Result<BTreeMap<String, usize>> {
        let more = |(kind, ids): (String, Vec<String>)| {
            let more = ids.iter().filter(|id| !these[&kind].contains(id)).count();
            (more > 0).then_some((kind, more))
        };
        Ok(self.moto.inventory()?.into_iter().filter_map(more).collect())
    }

    /// # Errors
    /// When there is something else in EC2 than in the beginning.
    pub fn ensure_as_before(&self) -> Result<()> {
        let now = self.moto.inventory()?;
        ensure!(now == self.before, "in EC2 is {now:?}, and was {:?}", self.before);
        Ok(())
    }

    /// Nothing of a build in EC2 or on the computer, in a moment.
    ///
    /// # Errors
    /// When there is.
    pub fn ensure_settled(&self, host: &Host) -> Result<()> {
        within(PATIENCE, || {
            self.ensure_as_before()?;
            host.inventory()?.ensure_empty()
        })
    }

    /// The next apply builds, and leaves one image and nothing else, which then goes.
    ///
    /// # Errors
    /// When it does not.
    pub fn ensure_builds_one(&self, host: &Host, workspace: &Workspace) -> Result<()> {
        workspace.apply()?;
        ensure!(self.more()? == images(1), "after the apply there are {:?} more", self.more()?);
        ensure!(workspace.text(IMAGE, "origin")? == "built", "the apply built nothing");
        host.inventory()?.ensure_empty()?;
        workspace.destroy()?;
        self.ensure_as_before()
    }

    /// Claims that no state knows have run out of time.
    ///
    /// # Errors
    /// When it is refused.
    pub fn lapse(&self) -> Result<()> {
        let images = self.moto.ec2("DescribeImages", &[("Owner.1", "self")])?;
        for image in images.split("<imageId>").skip(1) {
            let id = image.split('<').next().unwrap_or_default();
            for claim in image.split("<key>").skip(1).filter(|tag| tag.starts_with("sindri_holder_")) {
                let key = claim.split('<').next().unwrap_or_default();
                if element(claim, "value") != Some("held") {
                    let past = [("Tag.1.Key", key), ("Tag.1.Value", "2026-01-01T00:00:00Z")];
                    self.moto.ec2("CreateTags", &[&[("ResourceId.1", id)], &past[..]].concat())?;
                }
            }
        }
        Ok(())
    }

    /// What a build on another computer has, and has until the end of time. Returns how many of each kind.
    ///
    /// # Errors
    /// When it is refused.
    pub fn somebody_else_builds(&self) -> Result<BTreeMap<String, usize>> {
        let machine = [("ImageId", self.source.as_str()), ("MinCount", "1"), ("MaxCount", "1")];
        let group = [("GroupName", "elsewhere"), ("GroupDescription", "of a build elsewhere")];
        for (action, kind, parameters) in
            [("RunInstances", "instance", &machine[..]), ("CreateSecurityGroup", "security-group", &group)]
        {
            let tags = [
                ("TagSpecification.1.ResourceType", kind),
                ("TagSpecification.1.Tag.1.Key", "sindri_build"),
                ("TagSpecification.1.Tag.1.Value", "5f0c0000-0000-4000-8000-000000000001"),
                ("TagSpecification.1.Tag.2.Key", "sindri_deadline"),
                ("TagSpecification.1.Tag.2.Value", "2099-01-01T00:00:00Z"),
            ];
            self.moto.ec2(action, &[parameters, &tags].concat())?;
        }
        self.more()
    }

    /// Ends what [`Account::somebody_else_builds`] began.
    ///
    /// # Errors
    /// When there is something else then than in the beginning.
    pub fn end_others(&self) -> Result<()> {
        let now = self.moto.inventory()?;
        let parameters = [
            ("instances", "TerminateInstances", "InstanceId.1"),
            ("security_groups", "DeleteSecurityGroup", "GroupId"),
        ];
        for (kind, action, parameter) in parameters {
            for id in now[kind].iter().filter(|id| !self.before[kind].contains(id)) {
                self.moto.ec2(action, &[(parameter, id)])?;
            }
        }
        self.ensure_as_before()
    }

    /// What there is beside this has run out of time, without anybody's waiting for it.
    ///
    /// # Errors
    /// When it is refused.
    pub fn run_out(&self, but: &Inventory) -> Result<()> {
        self.moto.run_out(but)
    }
}

/// Waits until an apply's log has these words.
///
/// # Errors
/// When it ends before.
pub fn says(host: &Host, running: &mut Running, words: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(300);
    while !log(host).contains(words) {
        let waits = Instant::now() < deadline && !running.has_ended()?;
        ensure!(waits, "no {words:?}: {}", log(host));
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// So many images with their snapshots.
pub fn images(count: usize) -> BTreeMap<String, usize> {
    [("images".to_owned(), count), ("snapshots".to_owned(), count)].into()
}

/// The log of the host's last build.
pub fn log(host: &Host) -> String {
    fs::read_to_string(host.data_dir().join("logs/latest-it.log")).unwrap_or_default()
}

/// The processes that know of the host's data folder and whose command line has all of these words.
fn processes(host: &Host, words: &[&str]) -> Result<Vec<Pid>> {
    let all = host.inventory()?.processes;
    let meant = all.iter().filter(|process| words.iter().all(|word| process.contains(word)));
    Ok(meant.filter_map(|process| Pid::from_raw(process.split(' ').next()?.parse().ok()?)).collect())
}

/// kill -9 of the provider and of its supervisors, none of which gets to see that the others are gone. Returns how many
/// supervised. An apply that ends by itself in the same moment is fine.
///
/// # Errors
/// When the provider cannot be killed, or the apply does not end.
pub fn kill_with_supervisor(host: &Host, running: Running) -> Result<usize> {
    let supervisors = processes(host, &["supervise", "--then"])?;
    for supervisor in &supervisors {
        let _ = kill_process(*supervisor, Signal::STOP);
    }
    let killed = running.kill_provider();
    for supervisor in &supervisors {
        let _ = kill_process(*supervisor, Signal::KILL);
    }
    if !running.wait(PATIENCE)?.success {
        killed?;
    }
    Ok(supervisors.len())
}

/// The computer is switched off: all that runs of the build ends.
///
/// # Errors
/// When something runs on.
pub fn switch_off(host: &Host, running: Running) -> Result<()> {
    kill_with_supervisor(host, running)?;
    within(Duration::from_secs(10), || {
        let left = processes(host, &[])?;
        for process in &left {
            let _ = kill_process(*process, Signal::KILL);
        }
        ensure!(left.is_empty(), "{left:?} still run");
        Ok(())
    })
}

/// `sweep` by hand, in a workspace's environment. Returns what it says.
///
/// # Errors
/// When it fails.
pub fn sweep(workspace: &Workspace, arguments: &[&str]) -> Result<String> {
    let output = workspace.provider(&[&["sweep"], arguments].concat())?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "sweep: {errors}");
    Ok(String::from_utf8(output.stdout)?)
}
