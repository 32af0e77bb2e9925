//! What becomes of machines on AWS when the provider or its host is killed, when somebody else ends them, and when the
//! credentials are others. Against the rig's EC2.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use acceptance_tests::account::{Inventory, sweep};
use acceptance_tests::{Cli, Diagnostic, Fault, Host, Moto, Outcome, Running, Workspace, only_root, within};
use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::aws_vm::{VM, count, nothing_left, scenario, with};
use crate::bad_input::SmallDisk;

/// How long a host may take to notice that its provider is gone, or to end when asked to.
const PATIENCE: Duration = Duration::from_secs(60);

/// An apply whose machine runs and does not answer.
fn amid_a_launch(moto: &Moto, workspace: &Workspace, image: &str) -> Result<(Running, TcpListener)> {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let ssh = json!({ "host": "127.0.0.1", "port": silent.local_addr()?.port() });
    workspace.variables(&with(image, json!({ "wait_for": "ssh", "ssh": ssh })))?;
    let before = count(moto, "instances")?;
    let running = workspace.start_apply()?;
    within(PATIENCE, || {
        ensure!(count(moto, "instances")? > before, "the launch did not get to its instance");
        Ok(())
    })?;
    Ok((running, silent))
}

/// What a launch on another computer has, and has until the end of time.
fn somebody_else_launches(moto: &Moto, image: &str) -> Result<Inventory> {
    let machine = [("ImageId", image), ("MinCount", "1"), ("MaxCount", "1")];
    let group = [("GroupName", "elsewhere"), ("GroupDescription", "of a launch elsewhere")];
    for (action, kind, parameters) in
        [("RunInstances", "instance", &machine[..]), ("CreateSecurityGroup", "security-group", &group)]
    {
        let tags = [
            ("TagSpecification.1.ResourceType", kind),
            ("TagSpecification.1.Tag.1.Key", "sindri_vm"),
            ("TagSpecification.1.Tag.1.Value", "5f0c0000-0000-4000-8000-000000000001"),
            ("TagSpecification.1.Tag.2.Key", "sindri_deadline"),
            ("TagSpecification.1.Tag.2.Value", "2099-01-01T00:00:00Z"),
        ];
        moto.ec2(action, &[parameters, &tags].concat())?;
    }
    moto.inventory()
}

/// The next apply leaves its own machine and nothing of the killed one; the destroy leaves nothing.
fn ensure_launches_one(host: &Host, moto: &Moto, workspace: &Workspace, others: &Inventory) -> Result<()> {
    let image = &others["images"][0];
    let _ = fs::remove_file(workspace.path().join(".terraform.tfstate.lock.info"));
    workspace.variables(&with(image, json!({})))?;
    workspace.apply()?;
    let there = moto.inventory()?;
    for kind in ["instances", "volumes", "key_pairs", "security_groups"] {
        ensure!(there[kind].len() == others[kind].len() + 1, "{kind}: {there:?}, of others {others:?}");
    }
    let id = workspace.text(VM, "id")?;
    let told = moto.ec2("DescribeInstances", &[("InstanceId.1", &id)])?;
    ensure!(!told.contains("sindri_deadline"), "the deadline of a machine in state stays: {told}");
    workspace.destroy()?;
    let there = moto.inventory()?;
    ensure!(there == *others, "left: {there:?}, of others {others:?}");
    host.inventory()?.ensure_empty()
}

#[test]
fn what_killed_launches_made_is_removed_and_no_other() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace, image) = scenario(&host, Cli::Tofu, "aws-vm-settings")?;
    let others = somebody_else_launches(&moto, &image)?;

    // The provider alone: the next apply.
    let (running, _silent) = amid_a_launch(&moto, &workspace, &image)?;
    running.kill_provider()?;
    running.wait(PATIENCE)?.fails()?;
    ensure!(workspace.state(VM)?.is_none(), "a killed provider left state: what is tested here?");
    ensure_launches_one(&host, &moto, &workspace, &others)?;

    // The host: the provider removes what it can before it ends, and the next apply the rest.
    let (running, _silent) = amid_a_launch(&moto, &workspace, &image)?;
    running.kill()?;
    ensure!(!running.wait(PATIENCE)?.success, "killed, and a success");
    within(PATIENCE, || {
        host.inventory()?.processes.is_empty().then_some(()).context("the provider goes on")
    })?;
    ensure_launches_one(&host, &moto, &workspace, &others)?;

    // The computer with its journal: who comes after the deadline, and nobody before.
    let (running, _silent) = amid_a_launch(&moto, &workspace, &image)?;
    running.kill_provider()?;
    running.wait(PATIENCE)?.fails()?;
    fs::remove_dir_all(host.data_dir())?;
    ensure!(sweep(&workspace, &[])?.contains("nothing to remove"), "a launch within its time was swept");
    moto.run_out(&others)?;
    ensure_launches_one(&host, &moto, &workspace, &others)?;

    // By hand.
    let (running, _silent) = amid_a_launch(&moto, &workspace, &image)?;
    running.kill_provider()?;
    running.wait(PATIENCE)?.fails()?;
    let told = sweep(&workspace, &["--dry-run"])?;
    ensure!(told.contains("would remove instance i-") && told.contains("of launch "), "{told}");
    sweep(&workspace, &[])?;
    let there = moto.inventory()?;
    ensure!(there == others, "left: {there:?}, of others {others:?}");
    host.inventory()?.ensure_empty()
}

#[test]
fn an_interrupted_launch_leaves_nothing() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace, image) = scenario(&host, Cli::Tofu, "aws-vm-settings")?;
    let (running, _silent) = amid_a_launch(&moto, &workspace, &image)?;
    // Who looks for the machine may come to a place that has not heard of it.
    moto.fault("DescribeInstances", 2, Fault::Unseen)?;
    running.interrupt()?;
    let outcome = running.wait(PATIENCE)?;
    ensure!(!outcome.success, "an interrupted apply passed for a success");
    moto.ensure_no_machines()?;
    workspace.destroy()?;
    nothing_left(&host, &moto)
}

/// A run that is interrupted while EC2 does not answer what it asks, after so many answers. It ends soon, and not well.
pub(crate) fn interrupted_amid(
    moto: &Moto,
    workspace: &Workspace,
    action: &str,
    after: u32,
    command: &[&str],
) -> Result<Outcome> {
    moto.forget_requests()?;
    moto.fault_after(action, after, 1, Fault::Late { seconds: 40 })?;
    let what = format!("{} amid {action}", command.join(" "));
    let running = workspace.start(command)?;
    within(PATIENCE, || {
        let asked = moto.requests()?.get(action).copied().unwrap_or_default();
        ensure!(asked > u64::from(after), "{what}: it was asked for {asked} times only");
        Ok(())
    })?;
    running.interrupt()?;
    let outcome = running.wait(Duration::from_secs(20)).with_context(|| what.clone())?;
    ensure!(!outcome.success, "{what}: interrupted, and a success");
    moto.heal()?;
    Ok(outcome)
}

#[test]
fn an_interrupt_does_not_wait_for_an_answer() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace, image) = scenario(&host, Cli::Tofu, "aws-vm-settings")?;
    workspace.variables(&with(&image, json!({})))?;
    let apply = &["apply", "-json", "-auto-approve"][..];
    for action in ["GetCallerIdentity", "DescribeImages"] {
        interrupted_amid(&moto, &workspace, action, 0, apply)?;
        ensure!(workspace.state(VM)?.is_none(), "{action}: a launch that was not begun is in state");
        nothing_left(&host, &moto)?;
    }
    workspace.apply()?;
    let (plan, destroy) = (&["plan", "-json"][..], &["destroy", "-json", "-auto-approve"][..]);
    for (action, command) in [("DescribeInstances", plan), ("TerminateInstances", destroy)] {
        interrupted_amid(&moto, &workspace, action, 0, command)?;
    }
    workspace.destroy()?;
    nothing_left(&host, &moto)
}

#[test]
fn with_credentials_of_another_account_nothing_is_gone() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace, image) = scenario(&host, Cli::Tofu, "aws-vm-settings")?;
    let home = with(&image, json!({}));
    workspace.variables(&home)?;
    workspace.apply()?;
    let role = json!({ "role_arn": "arn:aws:iam::222222222222:role/ci" });
    workspace.variables(&with(&image, json!({ "provider_aws": { "assume_role": role } })))?;
    let both = |errors: Vec<Diagnostic>| -> Result<()> {
        let told = |account: &str| errors.iter().any(|error| error.mentions(account));
        ensure!(told("123456789012") && told("222222222222"), "{errors:?}");
        Ok(())
    };
    both(workspace.plan_fails()?)?;
    both(workspace.run(&["destroy", "-json", "-auto-approve", "-refresh=false"])?.fails()?)?;
    workspace.variables(&home)?;
    workspace.converged()?;
    workspace.destroy()?;
    nothing_left(&host, &moto)
}

#[test]
fn reading_neither_waits_nor_removes_anything() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace, image) = scenario(&host, Cli::Tofu, "aws-vm-settings")?;
    moto.instances_take(Duration::from_secs(1))?;
    let powered = |state: &str| workspace.variables(&with(&image, json!({ "power_state": state })));
    for state in ["running", "stopped", "running"] {
        powered(state)?;
        workspace.apply()?;
        assert_eq!(workspace.text(VM, "status")?, state);
    }
    let id = workspace.text(VM, "id")?;
    moto.instances_take(Duration::from_secs(3))?;
    moto.ec2("TerminateInstances", &[("InstanceId.1", &id)])?;
    let told = workspace.run(&["plan", "-json"])?.succeeds()?.warnings();
    ensure!(told.iter().any(|one| one.mentions("User initiated shutdown")), "{told:?}");
    moto.forget_requests()?;
    let plan = workspace.plan()?;
    assert_eq!(plan.action(VM), "replace", "{plan}");
    let requests = moto.requests()?;
    let writes: Vec<_> = requests.keys().filter(|action| !action.starts_with("Describe")).collect();
    ensure!(writes.iter().all(|action| *action == "GetCallerIdentity"), "a plan wrote: {requests:?}");
    ensure!(requests["DescribeInstances"] <= 2, "a plan waited: {requests:?}");
    let key = workspace.text(VM, "ssh_private_key_path")?;
    fs::metadata(&key).context("a plan removed the private key")?;
    assert_eq!((count(&moto, "key_pairs")?, count(&moto, "security_groups")?), (1, 1));
    workspace.destroy()?;
    nothing_left(&host, &moto)
}

/// EC2 shows an instance for a while that is on its way out: gone, and what was made for it is needed until it has ended.
#[test]
fn a_machine_on_its_way_out_counts_as_gone() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace, image) = scenario(&host, Cli::Tofu, "aws-vm-settings")?;
    workspace.variables(&with(&image, json!({})))?;
    workspace.apply()?;
    let id = workspace.text(VM, "id")?;
    let takes = Duration::from_secs(12);
    moto.instances_take(takes)?;
    moto.ec2("TerminateInstances", &[("InstanceId.1", &id)])?;
    let asked = Instant::now();
    let told = moto.ec2("DescribeInstances", &[("InstanceId.1", &id)])?;
    ensure!(told.contains("<name>shutting-down<"), "what is tested here? {told}");
    // Nothing is changed of it.
    workspace.variables(&with(&image, json!({ "power_state": "stopped", "tags": { "role": "it" } })))?;
    moto.forget_requests()?;
    let errors = workspace.run(&["apply", "-json", "-auto-approve", "-refresh=false"])?.fails()?;
    ensure!(errors.iter().any(|error| error.mentions(&id)), "{errors:?}");
    for action in ["CreateTags", "StopInstances", "RunInstances"] {
        ensure!(!moto.requests()?.contains_key(action), "{action} for a machine that is on its way out");
    }
    let plan = workspace.plan()?;
    assert_eq!(plan.action(VM), "replace", "{plan}");
    ensure!(plan.change(VM).is_some_and(|change| change.before["status"] != "running"), "{plan}");
    ensure!(asked.elapsed() < takes, "it has ended already: what is tested here?");
    // It is waited for.
    workspace.run(&["destroy", "-json", "-auto-approve", "-refresh=false"])?.succeeds()?;
    ensure!(asked.elapsed() >= takes, "it was not waited for: {:?}", asked.elapsed());
    nothing_left(&host, &moto)
}

/// What is written of a launch, before anything is asked for.
#[test]
fn a_launch_on_a_full_disk_is_told_and_leaves_nothing() -> Result<()> {
    if !only_root("mount a small disk")? {
        return Ok(());
    }
    let host = Host::new()?;
    let (moto, workspace, image) = scenario(&host, Cli::Tofu, "aws-vm-settings")?;
    workspace.variables(&with(&image, json!({ "aws": { "allowed_cidrs": ["192.0.2.0/24"] } })))?;
    let data_dir = host.data_dir();
    let small = SmallDisk::mount(data_dir.parent().context("a data folder below another")?)?;
    let fill = small.fill()?;
    // The journal, and the key.
    for (leave, file) in [(0, "launches"), (4096, "id_ed25519")] {
        let filled = fs::OpenOptions::new().write(true).open(&fill)?;
        filled.set_len(filled.metadata()?.len() - leave)?;
        let errors = workspace.apply_with(&[])?.fails()?;
        ensure!(errors.len() == 1, "{errors:?}");
        for says in ["No space left", file, "`data_dir`"] {
            ensure!(errors.iter().any(|error| error.mentions(says)), "{leave}: no {says:?} in {errors:?}");
        }
        workspace.destroy()?;
        nothing_left(&host, &moto)?;
    }
    fs::remove_file(fill)?;
    workspace.apply()?;
    workspace.converged()?;
    workspace.destroy()?;
    nothing_left(&host, &moto)
}
