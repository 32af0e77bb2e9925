//! Images on AWS, really built: by the distribution's Packer, against the rig's EC2, in a guest that stands for all of
//! its instances. What is left when a build fails, is stopped, or is killed.
//!
//! A guest is dear, and builds in one machine get into each other's way: this is one test.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use acceptance_tests::{Cli, Guest, Host, Moto, Running, Workspace, each_cli, within};
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const IMAGE: &str = "sindri_image.it";
const PAIR: &str = "of-the-user";
/// As long as this is in the guest, a step goes on.
const HOLD: &str = "/srv/hold";
/// What is removed is looked for several times.
const PATIENCE: Duration = Duration::from_secs(60);

type Inventory = BTreeMap<String, Vec<String>>;
type Case = (&'static str, fn(&Account) -> Result<()>);

/// An account with a source image and a key pair, and the machine behind its instances.
struct Account {
    moto: Moto,
    source: String,
    before: Inventory,
    // In this order: it is destroyed before its host's folder goes.
    _machine: Workspace,
    _host: Host,
    guest: Guest,
}

impl Account {
    fn new() -> Result<Self> {
        let host = Host::new()?;
        let machine = host.workspace(Cli::Tofu, "vm")?;
        machine.apply()?;
        let guest = machine.guest("sindri_vm.it")?;
        // Every build would wait for it, which takes an emulated processor its time.
        guest.run("sudo rm -f /usr/bin/cloud-init")?;
        let moto = Moto::start()?;
        let source = moto.image("a-source")?;
        moto.ec2("CreateKeyPair", &[("KeyName", PAIR)])?;
        let before = moto.inventory()?;
        Ok(Account { moto, source, before, _machine: machine, _host: host, guest })
    }

    /// A workspace whose builds reach the machine.
    fn workspace(&self, host: &Host, cli: Cli, more: Value) -> Result<Workspace> {
        let mut workspace = host.workspace(cli, "aws-build")?;
        self.moto.serve(&mut workspace);
        self.set(&workspace, more)?;
        Ok(workspace)
    }

    fn set(&self, workspace: &Workspace, more: Value) -> Result<()> {
        let (address, port, user, key) = self.guest.login();
        let guest = json!({ "host": address, "port": port, "user": user, "key": key, "pair": PAIR });
        let mut variables = json!({ "source_image": self.source, "guest": guest });
        if let (Some(all), Value::Object(more)) = (variables.as_object_mut(), more) {
            all.extend(more);
        }
        workspace.variables(&variables)
    }

    /// An apply whose step goes on until [`Account::release`].
    fn amid_a_step(&self, host: &Host, marker: &str) -> Result<(Workspace, Running)> {
        self.guest.run(&format!("sudo touch {HOLD}"))?;
        let command = format!("echo goes on; while test -e {HOLD}; do sleep 1; done");
        let more = json!({ "marker": marker, "command": command });
        let workspace = self.workspace(host, Cli::Tofu, more)?;
        let mut running = workspace.start_apply()?;
        let deadline = Instant::now() + Duration::from_secs(300);
        while !log(host).contains("image: goes on") {
            let waits = Instant::now() < deadline && !running.has_ended()?;
            ensure!(waits, "the step never ran: {}", log(host));
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok((workspace, running))
    }

    fn release(&self) -> Result<()> {
        self.guest.run(&format!("sudo rm -f {HOLD}")).map(drop)
    }

    /// How many there are more than in the beginning, by kind.
    fn more(&self) -> Result<BTreeMap<String, usize>> {
        let more = |(kind, ids): (String, Vec<String>)| {
            let more = ids.iter().filter(|id| !self.before[&kind].contains(id)).count();
            (more > 0).then_some((kind, more))
        };
        Ok(self.moto.inventory()?.into_iter().filter_map(more).collect())
    }

    fn ensure_as_before(&self) -> Result<()> {
        let now = self.moto.inventory()?;
        ensure!(now == self.before, "in EC2 is {now:?}, and was {:?}", self.before);
        Ok(())
    }

    /// Nothing of a build in EC2 or on the computer, in a moment.
    fn ensure_settled(&self, host: &Host) -> Result<()> {
        within(PATIENCE, || {
            self.ensure_as_before()?;
            host.inventory()?.ensure_empty()
        })
    }

    /// The next apply builds, and leaves one image and nothing else, which then goes.
    fn ensure_builds_one(&self, host: &Host, workspace: &Workspace) -> Result<()> {
        workspace.apply()?;
        assert_eq!(self.more()?, images(1));
        assert_eq!(workspace.text(IMAGE, "origin")?, "built");
        host.inventory()?.ensure_empty()?;
        workspace.destroy()?;
        self.ensure_as_before()
    }
}

fn images(count: usize) -> BTreeMap<String, usize> {
    [("images".to_owned(), count), ("snapshots".to_owned(), count)].into()
}

fn log(host: &Host) -> String {
    fs::read_to_string(host.data_dir().join("logs/latest-it.log")).unwrap_or_default()
}

/// The processes that know of the host's data folder and whose command line has all of these words.
fn processes(host: &Host, words: &[&str]) -> Result<Vec<Pid>> {
    let all = host.inventory()?.processes;
    let meant = all.iter().filter(|process| words.iter().all(|word| process.contains(word)));
    Ok(meant.filter_map(|process| Pid::from_raw(process.split(' ').next()?.parse().ok()?)).collect())
}

/// kill -9 of the provider and of its Packer's supervisor, neither of which gets to see that the other is gone.
fn kill_with_supervisor(host: &Host, running: Running) -> Result<()> {
    let supervisors = processes(host, &["supervise", "--then"])?;
    ensure!(supervisors.len() == 1, "{supervisors:?} supervise");
    for supervisor in &supervisors {
        kill_process(*supervisor, Signal::STOP)?;
    }
    running.kill_provider()?;
    for supervisor in supervisors {
        kill_process(supervisor, Signal::KILL)?;
    }
    running.wait(PATIENCE)?.fails().map(drop)
}

/// The computer is switched off: all that runs of the build ends.
fn switch_off(host: &Host, running: Running) -> Result<()> {
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

fn sweep(workspace: &Workspace, arguments: &[&str]) -> Result<String> {
    let output = workspace.provider(&[&["sweep"], arguments].concat())?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "sweep: {errors}");
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn images_are_built_and_nothing_is_left_of_those_that_are_not() -> Result<()> {
    let account = Account::new()?;
    let cases: [Case; 8] = [
        ("built, found again, built anew", builds),
        ("a step fails", a_step_fails),
        ("interrupted", interrupted),
        ("interrupted while EC2 makes the image", interrupted_at_the_image),
        ("the provider is killed", provider_killed),
        ("provider and supervisor are killed", both_killed),
        ("the computer is lost", computer_lost),
        ("swept by hand", swept_by_hand),
    ];
    for (name, case) in cases {
        let began = Instant::now();
        case(&account).with_context(|| name.to_owned())?;
        println!("{name}: {:?}", began.elapsed());
    }
    Ok(())
}

fn builds(account: &Account) -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let marker = format!("built-under-{}", cli.name());
        let workspace = account.workspace(&host, cli, json!({ "marker": marker }))?;
        let plan = workspace.plan()?;
        let planned = plan.change(IMAGE).context("nothing planned")?;
        assert_eq!(planned.after["region"], "us-west-2", "{plan}");
        assert_eq!(planned.after_unknown["image_id"], true, "{plan}");
        workspace.apply()?;
        workspace.converged()?;
        assert_eq!(account.more()?, images(1));
        assert_eq!(account.guest.run("cat /srv/marker")?, marker);
        ensure!(log(&host).contains("Handing over to Packer 1.6.6"), "{}", log(&host));
        let id = workspace.text(IMAGE, "image_id")?;
        assert_eq!(workspace.text(IMAGE, "origin")?, "built");
        host.inventory()?.ensure_empty()?;

        let other = account.workspace(&host, cli, json!({ "marker": marker }))?;
        let plan = other.plan()?;
        let planned = plan.change(IMAGE).context("nothing planned")?;
        assert_eq!((&planned.after["image_id"], &planned.after["origin"]), (&json!(id), &json!("cached")));
        account.moto.forget_requests()?;
        other.apply()?;
        ensure!(!account.moto.requests()?.contains_key("RunInstances"), "an instance for a cached image");
        other.converged()?;

        let anew = account.workspace(&host, cli, json!({ "marker": marker, "cache": false }))?;
        anew.apply()?;
        anew.converged()?;
        assert_ne!(anew.text(IMAGE, "image_id")?, id);
        assert_eq!(account.more()?, images(2));
        for workspace in [&workspace, &other, &anew] {
            workspace.destroy()?;
        }
        account.ensure_as_before()?;
        host.inventory()?.ensure_empty()
    })
}

fn a_step_fails(account: &Account) -> Result<()> {
    let host = Host::new()?;
    let command = "echo the reason; exit 7";
    let workspace = account.workspace(&host, Cli::Tofu, json!({ "marker": "fails", "command": command }))?;
    let errors = workspace.apply_with(&[])?.fails()?;
    let logs = host.data_dir().join("logs").display().to_string();
    for words in ["failed with exit code 7", "image: the reason", &logs] {
        ensure!(errors.iter().any(|error| error.mentions(words)), "no {words:?} in {errors:?}");
    }
    account.ensure_as_before()?;
    host.inventory()?.ensure_empty()
}

fn interrupted(account: &Account) -> Result<()> {
    let host = Host::new()?;
    let (_workspace, running) = account.amid_a_step(&host, "interrupted")?;
    running.interrupt()?;
    let outcome = running.wait(PATIENCE)?;
    ensure!(!outcome.success, "an interrupted apply passed for a success");
    account.ensure_settled(&host)?;
    account.release()
}

fn interrupted_at_the_image(account: &Account) -> Result<()> {
    let host = Host::new()?;
    account.moto.images_take(Duration::from_secs(600), None)?;
    let workspace = account.workspace(&host, Cli::Tofu, json!({ "marker": "pending" }))?;
    let running = workspace.start_apply()?;
    within(Duration::from_secs(300), || {
        ensure!(log(&host).contains("Waiting for AMI"), "no image is being made: {}", log(&host));
        Ok(())
    })?;
    running.interrupt()?;
    let outcome = running.wait(PATIENCE)?;
    ensure!(!outcome.success, "an interrupted apply passed for a success");
    account.ensure_settled(&host)?;
    account.moto.images_take(Duration::ZERO, None)
}

fn provider_killed(account: &Account) -> Result<()> {
    let host = Host::new()?;
    let (workspace, running) = account.amid_a_step(&host, "orphaned")?;
    running.kill_provider()?;
    running.wait(PATIENCE)?.fails()?;
    // By the supervisor, and without anybody's doing.
    account.ensure_settled(&host)?;
    account.release()?;
    account.ensure_builds_one(&host, &workspace)
}

fn both_killed(account: &Account) -> Result<()> {
    let host = Host::new()?;
    let (workspace, running) = account.amid_a_step(&host, "abandoned")?;
    kill_with_supervisor(&host, running)?;
    assert_eq!(account.more()?.get("instances"), Some(&1));
    account.release()?;
    account.ensure_builds_one(&host, &workspace)
}

/// Only tags tell of what was built there.
fn computer_lost(account: &Account) -> Result<()> {
    let others = somebody_else_builds(account)?;
    let theirs = account.moto.inventory()?;
    let host = Host::new()?;
    let (workspace, running) = account.amid_a_step(&host, "lost")?;
    switch_off(&host, running)?;
    fs::remove_dir_all(host.data_dir())?;
    account.release()?;

    // It might go on elsewhere.
    let left = account.moto.inventory()?;
    sweep(&workspace, &[])?;
    assert_eq!(account.moto.inventory()?, left, "what might go on was removed");
    // Its time is over, without anybody's waiting for it.
    for (kind, ids) in &left {
        for id in ids.iter().filter(|id| !theirs[kind].contains(id)) {
            let past = [("Tag.1.Key", "sindri_deadline"), ("Tag.1.Value", "2026-01-01T00:00:00Z")];
            account.moto.ec2("CreateTags", &[&[("ResourceId.1", id.as_str())], &past[..]].concat())?;
        }
    }
    workspace.apply()?;
    let mut expected = others.clone();
    expected.extend(images(1));
    assert_eq!(account.more()?, expected);
    workspace.destroy()?;
    sweep(&workspace, &[])?;
    assert_eq!(account.moto.inventory()?, theirs);
    end_others(account)
}

/// What a build on another computer has, and has until the end of time. Returns how many of each kind.
fn somebody_else_builds(account: &Account) -> Result<BTreeMap<String, usize>> {
    let machine = [("ImageId", account.source.as_str()), ("MinCount", "1"), ("MaxCount", "1")];
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
        account.moto.ec2(action, &[parameters, &tags].concat())?;
    }
    account.more()
}

fn end_others(account: &Account) -> Result<()> {
    let now = account.moto.inventory()?;
    let parameters = [
        ("instances", "TerminateInstances", "InstanceId.1"),
        ("security_groups", "DeleteSecurityGroup", "GroupId"),
    ];
    for (kind, action, parameter) in parameters {
        for id in now[kind].iter().filter(|id| !account.before[kind].contains(id)) {
            account.moto.ec2(action, &[(parameter, id)])?;
        }
    }
    account.ensure_as_before()
}

fn swept_by_hand(account: &Account) -> Result<()> {
    let host = Host::new()?;
    let (workspace, running) = account.amid_a_step(&host, "swept")?;
    switch_off(&host, running)?;
    account.release()?;
    let left = account.moto.inventory()?;
    let instance = left["instances"].iter().find(|id| !account.before["instances"].contains(id));
    let instance = instance.context("nothing is left")?;
    let group = left["security_groups"].iter().find(|id| !account.before["security_groups"].contains(id));
    let told = sweep(&workspace, &["--dry-run"])?;
    for id in [instance, group.context("no group is left")?] {
        ensure!(told.contains(id), "no {id} in {told}");
    }
    assert_eq!(account.moto.inventory()?, left, "a dry run removed something");
    let told = sweep(&workspace, &[])?;
    ensure!(told.contains(&format!("removed instance {instance}")), "{told}");
    account.ensure_as_before()?;
    host.inventory()?.ensure_empty()
}
