//! Finished images on AWS, checked in machines that are launched from them (`verify_boot`). As in `aws_build.rs`, one guest
//! stands for all instances, and this is one test.

use std::fs;
use std::time::{Duration, Instant};

use acceptance_tests::account::{Account, HOLD, IMAGE, PATIENCE, images, kill_with_supervisor, log, sweep};
use acceptance_tests::{Cli, Fault, Host, Running, Workspace, repository, within};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

type Case = (&'static str, fn(&Account) -> Result<()>);

#[test]
fn finished_images_are_checked_in_machines_of_their_own() -> Result<()> {
    let account = Account::new()?;
    let cases: [Case; 12] = [
        ("a machine from a clean image is looked through", looked_through),
        ("an image is public only after a look", public_later),
        ("the provider is killed amid a look", killed_amid_a_look),
        ("refused at plan", refused),
        ("the check passes, and a connection breaks", passes),
        ("its machine does not end", not_ended),
        ("the launch is refused, for a look", launch_refused),
        ("its first boot fails", first_boot_fails),
        ("the check fails, for a look", kept),
        ("interrupted", interrupted),
        ("the provider is killed, and then there is nothing to check but the boot", provider_killed),
        ("provider and supervisor are killed", both_killed),
    ];
    for (name, case) in cases {
        let began = Instant::now();
        case(&account).with_context(|| name.to_owned())?;
        println!("{name}: {:?}", began.elapsed());
    }
    Ok(())
}

fn with_check(marker: &str, command: &str) -> Value {
    json!({ "marker": marker, "verify_boot": true, "verify": [{ "name": "the check", "command": command }] })
}

/// An apply whose check goes on until [`Account::release`].
fn amid_a_check(account: &Account, host: &Host, marker: &str) -> Result<(Workspace, Running)> {
    let command = format!("echo is checked; while test -e {HOLD}; do sleep 1; done");
    account.amid(host, with_check(marker, &command), "\nis checked\n")
}

fn refused(account: &Account) -> Result<()> {
    let host = Host::new()?;
    let mut variables = with_check("refused", "true");
    variables["ssh_bastion_host"] = json!("bastion.example");
    let workspace = account.workspace(&host, Cli::Tofu, variables)?;
    let errors = workspace.plan_fails()?;
    let is_told = |words: &str| errors.iter().any(|error| error.mentions(words));
    ensure!(is_told("not reached through a bastion") && is_told("verify_boot"), "{errors:?}");
    account.ensure_as_before()
}

/// The machine is one from an image that was cleaned. What it is run for here, `verify_boot` does where the image is cleaned.
fn looked_through(account: &Account) -> Result<()> {
    let script = fs::read_to_string(repository().join("templates/scripts/look-clean.sh"))?;
    let look = "sudo SINDRI_LOOK_FOR='data keys secrets' sh /tmp/look";
    // The first look is to find nothing, the second what is older than the boot.
    let told = account.guest.run(&format!(
        "cat >/tmp/look <<'END' && {look} && sudo touch -d 2020-01-01 /etc/machine-id && ! {look} && sudo touch /etc/machine-id\n{script}END"
    ))?;
    assert_eq!(told, "the image is not clean:\n/etc/machine-id: the id of all machines from the image");
    Ok(())
}

fn is_public(account: &Account, id: &str) -> Result<bool> {
    let asked = [("ImageId", id), ("Attribute", "launchPermission")];
    Ok(account.moto.ec2("DescribeImageAttribute", &asked)?.contains("<group>all"))
}

/// The same configuration with other variables.
fn change(account: &Account, workspace: &Workspace, variables: &mut Value, public: bool) -> Result<()> {
    variables["public"] = json!(public);
    account.variables(workspace, variables.clone())
}

fn public_later(account: &Account) -> Result<()> {
    let host = Host::new()?;
    let (workspace, mut variables, id) = account.found(&host, "public")?;
    assert_eq!(workspace.text(IMAGE, "image_id")?, id);
    account.moto.forget_requests()?;
    change(account, &workspace, &mut variables, true)?;
    account.guest.run(
        "sudo mkdir -p /root/.ssh && echo ssh-ed25519 AAAAof-the-builder | sudo tee /root/.ssh/authorized_keys
         echo machine git.example password s3cr3t | sudo tee /root/.netrc && sudo touch -d 2020-01-01 /root/.netrc",
    )?;
    let errors = workspace.apply_with(&[])?.fails()?;
    account.guest.run("sudo rm /root/.ssh/authorized_keys /root/.netrc")?;
    let told = |words: &str| errors.iter().any(|one| one.mentions(words) || one.code.contains(words));
    for words in [
        "/root/.ssh/authorized_keys: lets somebody into",
        "/root/.netrc: everybody could use",
        "is not made public",
        "public",
    ] {
        ensure!(told(words), "no {words:?} in {errors:?}");
    }
    ensure!(!told("s3cr3t"), "{errors:?}");
    ensure!(!is_public(account, &id)?, "it is public, and was found not to be clean");
    assert_eq!(account.more()?, images(1));
    host.inventory()?.ensure_empty()?;
    assert_eq!(workspace.resource(IMAGE)?["aws"]["share"]["public"], json!(false));

    assert_eq!(workspace.plan()?.action(IMAGE), "update");
    workspace.apply()?;
    workspace.converged()?;
    ensure!(is_public(account, &id)?, "it is clean, and not public");
    assert_eq!(account.moto.requests()?.get("RunInstances"), Some(&2));
    assert_eq!(account.more()?, images(1));
    host.inventory()?.ensure_empty()?;

    // It was looked through, and does not change.
    for public in [false, true] {
        change(account, &workspace, &mut variables, public)?;
        workspace.apply()?;
        workspace.converged()?;
        assert_eq!(is_public(account, &id)?, public);
    }
    assert_eq!(account.moto.requests()?.get("RunInstances"), Some(&2));
    workspace.destroy()?;
    account.ensure_as_before()
}

fn killed_amid_a_look(account: &Account) -> Result<()> {
    let host = Host::new()?;
    let (workspace, mut variables, id) = account.found(&host, "public-killed")?;
    change(account, &workspace, &mut variables, true)?;
    for with_supervisor in [false, true] {
        account.moto.instances_take(Duration::from_secs(20))?;
        account.moto.forget_requests()?;
        let running = workspace.start_apply()?;
        within(PATIENCE, || {
            ensure!(account.moto.requests()?.contains_key("RunInstances"), "no machine is launched");
            Ok(())
        })?;
        if with_supervisor {
            assert_eq!(kill_with_supervisor(&host, running)?, 1);
            account.moto.instances_take(Duration::ZERO)?;
            assert_eq!(account.more()?.get("instances"), Some(&1));
        } else {
            running.kill_provider()?;
            account.moto.instances_take(Duration::ZERO)?;
            running.wait(PATIENCE)?.fails()?;
            // By the supervisor, and without anybody's doing.
            within(PATIENCE, || {
                let more = account.more()?;
                ensure!(more == images(1), "{more:?}");
                host.inventory()?.ensure_empty()
            })?;
        }
        ensure!(!is_public(account, &id)?, "it is public, and nobody has looked");
    }
    workspace.apply()?;
    ensure!(is_public(account, &id)?, "it is not public");
    assert_eq!(account.more()?, images(1));
    workspace.destroy()?;
    account.ensure_as_before()
}

/// Ends the login that it runs in, once.
const BREAK: &str = "test ! -e /srv/broken || exit 0; touch /srv/broken; it=$$; \
                     until grep -q ^sshd /proc/$it/comm; do it=$(sed -n 's/^PPid:[[:space:]]*//p' /proc/$it/status); done; \
                     kill -9 $it; sleep 60";

fn passes(account: &Account) -> Result<()> {
    let host = Host::new()?;
    let command = "echo so far; grep -qx passes /srv/marker && test \"$(id -u)\" = 0";
    let checks = json!([{ "name": "the check", "command": command }, { "name": "breaks", "command": BREAK }]);
    let variables = json!({ "marker": "passes", "verify_boot": true, "verify": checks });
    let workspace = account.workspace(&host, Cli::Tofu, variables.clone())?;
    account.moto.forget_requests()?;
    workspace.apply()?;
    workspace.converged()?;
    assert_eq!(account.moto.requests()?.get("RunInstances"), Some(&2));
    assert_eq!(account.more()?, images(1));
    host.inventory()?.ensure_empty()?;
    let log = log(&host);
    let (builder, machine) = log.split_once("==> Packer made ").context(log.clone())?;
    ensure!(!builder.contains("the check"), "{log}");
    ensure!(machine.contains("==> Checking: the check\nso far\n"), "{log}");
    let count = |words: &str| log.matches(words).count();
    let told = [
        count("The connection broke: logging in again"),
        count("Checking: the check"),
        count("Checking: breaks"),
    ];
    ensure!(told == [1, 1, 2], "{log}");
    account.guest.run("sudo rm /srv/broken")?;

    let again = account.workspace(&host, Cli::Tofu, variables)?;
    account.moto.forget_requests()?;
    again.apply()?;
    assert_eq!(again.text(IMAGE, "image_id")?, workspace.text(IMAGE, "image_id")?);
    ensure!(!account.moto.requests()?.contains_key("RunInstances"), "a cached image was checked");
    workspace.destroy()?;
    again.destroy()?;
    account.ensure_as_before()
}

/// In a VPC that is named, without capacity at first, and with a reply that is lost: as Packer, we look for no subnet when
/// nobody asks for a public address, and no second machine is launched.
fn boots(account: &Account, host: &Host, workspace: &Workspace) -> Result<()> {
    let found = account.moto.ec2("DescribeVpcs", &[])?;
    let vpc = found.split("<vpcId>").nth(1).and_then(|rest| rest.split('<').next()).context(found.clone())?;
    account.variables(workspace, json!({ "marker": "boots", "verify_boot": true, "vpc_id": vpc }))?;
    account.moto.forget_requests()?;
    let full = Fault::Error { status: 400, code: "InsufficientInstanceCapacity", message: "No capacity." };
    for fault in [full, Fault::Drop] {
        // The builder's launch passes.
        account.moto.fault_after("RunInstances", 1, 1, fault)?;
    }
    account.ensure_builds_one(host, workspace)?;
    let requests = account.moto.requests()?;
    assert_eq!(
        (requests.get("RunInstances"), requests.get("DescribeInstanceTypeOfferings")),
        (Some(&4), None)
    );
    ensure!(log(host).contains("==> Waiting for the end of its first boot"), "{}", log(host));
    Ok(())
}

fn not_ended(account: &Account) -> Result<()> {
    let host = Host::new()?;
    let workspace = account.workspace(&host, Cli::Tofu, with_check("endless", "true"))?;
    let message = "You are not authorized to perform this operation.";
    let denied = Fault::Error { status: 403, code: "UnauthorizedOperation", message };
    // The builder's end passes.
    account.moto.fault_after("TerminateInstances", 1, 1, denied)?;
    workspace.apply()?;
    ensure!(log(&host).contains("is not ended yet"), "{}", log(&host));
    let left = account.more()?;
    assert_eq!((left.get("instances"), left.get("images")), (Some(&1), Some(&1)));
    let told = sweep(&workspace, &[])?;
    ensure!(told.contains("removed instance i-") && !told.contains("image ami-"), "{told}");
    assert_eq!(account.more()?, images(1));
    workspace.converged()?;
    workspace.destroy()?;
    account.ensure_as_before()?;
    host.inventory()?.ensure_empty()
}

fn launch_refused(account: &Account) -> Result<()> {
    let host = Host::new()?;
    let mut variables = with_check("unlaunched", "true");
    variables["on_error"] = json!("keep");
    let workspace = account.workspace(&host, Cli::Tofu, variables)?;
    let message = "You have requested more vCPU capacity than your current vCPU limit.";
    let full = Fault::Error { status: 400, code: "VcpuLimitExceeded", message };
    account.moto.fault_after("RunInstances", 1, 1, full)?;
    let errors = workspace.apply_with(&[])?.fails()?;
    assert_eq!(account.more()?.get("images"), Some(&1));
    let log = host.data_dir().join("logs").display().to_string();
    let refused = "no machine can be launched from the finished image ami-";
    for words in [refused, "was left because of", "VcpuLimitExceeded", &log] {
        ensure!(errors.iter().any(|error| error.mentions(words)), "no {words:?} in {errors:?}");
    }
    let told = sweep(&workspace, &[])?;
    ensure!(told.contains("removed image ami-"), "{told}");
    account.ensure_as_before()?;
    host.inventory()?.ensure_empty()
}

fn first_boot_fails(account: &Account) -> Result<()> {
    let host = Host::new()?;
    // The builder has no cloud-init, and its image has one that fails.
    let command = "printf '#!/bin/sh\\necho the reason\\nexit 1\\n' >/usr/bin/cloud-init; chmod 755 /usr/bin/cloud-init; echo '{\"v1\": {\"errors\": [\"the reason\"]}}' >/run/cloud-init/result.json";
    let variables = json!({ "marker": "unbooted", "verify_boot": true, "command": command });
    let workspace = account.workspace(&host, Cli::Tofu, variables)?;
    let errors = workspace.apply_with(&[])?.fails()?;
    account.guest.run("sudo rm /usr/bin/cloud-init")?;
    for words in ["could not boot the finished image ami-", "exit code 1", "the reason"] {
        ensure!(errors.iter().any(|error| error.mentions(words)), "no {words:?} in {errors:?}");
    }
    account.ensure_as_before()?;
    host.inventory()?.ensure_empty()
}

fn kept(account: &Account) -> Result<()> {
    let host = Host::new()?;
    let mut variables = with_check("kept", "echo the reason; exit 9");
    variables["on_error"] = json!("keep");
    let workspace = account.workspace(&host, Cli::Tofu, variables)?;
    let errors = workspace.apply_with(&[])?.fails()?;
    let logs = host.data_dir().join("logs").display().to_string();
    let failed = "the check \"the check\" failed with exit code 9 in the finished image";
    for words in [failed, "the reason", &logs] {
        ensure!(errors.iter().any(|error| error.mentions(words)), "no {words:?} in {errors:?}");
    }
    let left = account.moto.inventory()?;
    for kind in ["images", "instances"] {
        let mut new = left[kind].iter().filter(|id| !account.before[kind].contains(id));
        let id = new.next().with_context(|| format!("no {kind} were kept"))?;
        ensure!(errors.iter().any(|error| error.mentions(id)), "no {id} in {errors:?}");
    }
    // What failed is not found by anybody.
    let plan = workspace.plan()?;
    let planned = plan.change(IMAGE).context("nothing planned")?;
    ensure!(planned.after["image_id"].is_null(), "{plan}");
    let told = sweep(&workspace, &[])?;
    ensure!(told.contains("removed image ami-") && told.contains("removed instance i-"), "{told}");
    account.ensure_as_before()?;
    host.inventory()?.ensure_empty()
}

fn interrupted(account: &Account) -> Result<()> {
    let host = Host::new()?;
    let (_workspace, running) = amid_a_check(account, &host, "interrupted")?;
    running.interrupt()?;
    let outcome = running.wait(PATIENCE)?;
    ensure!(!outcome.success, "an interrupted apply passed for a success");
    account.ensure_settled(&host)?;
    account.release()
}

fn provider_killed(account: &Account) -> Result<()> {
    let host = Host::new()?;
    let (workspace, running) = amid_a_check(account, &host, "orphaned")?;
    running.kill_provider()?;
    running.wait(PATIENCE)?.fails()?;
    // By the supervisor, and without anybody's doing.
    account.ensure_settled(&host)?;
    account.release()?;
    boots(account, &host, &workspace)
}

fn both_killed(account: &Account) -> Result<()> {
    let host = Host::new()?;
    let (workspace, running) = amid_a_check(account, &host, "abandoned")?;
    assert_eq!(kill_with_supervisor(&host, running)?, 1);
    let left = account.more()?;
    assert_eq!((left.get("instances"), left.get("images")), (Some(&1), Some(&1)));
    account.release()?;
    account.ensure_builds_one(&host, &workspace)?;
    ensure!(fs::read_dir(host.data_dir().join("journal"))?.next().is_none(), "the journal is not empty");
    Ok(())
}
