//! Images on AWS, really built: by the distribution's Packer, against the rig's EC2, in a guest that stands for all of
//! its instances. What is left when a build fails, is stopped, or is killed.
//!
//! A guest is dear, and builds in one machine get into each other's way: this is one test.

use std::cell::Cell;
use std::fs;
use std::time::{Duration, Instant};

use acceptance_tests::account::{
    Account, HOLD, IMAGE, PATIENCE, images, kill_with_supervisor, log, sweep, switch_off,
};
use acceptance_tests::{Cli, Host, Running, Workspace, each_cli, within};
use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::secrets::{self, Pieces, SECRETS};

type Case = (&'static str, fn(&Account) -> Result<()>);

/// An apply whose step goes on until [`Account::release`].
fn amid_a_step(account: &Account, host: &Host, marker: &str) -> Result<(Workspace, Running)> {
    let command = format!("echo goes on; while test -e {HOLD}; do sleep 1; done");
    let more = json!({ "marker": marker, "command": command });
    account.amid(host, more, "image: goes on")
}

#[test]
fn images_are_built_and_nothing_is_left_of_those_that_are_not() -> Result<()> {
    let account = Account::new()?;
    let cases: [Case; 8] = [
        ("built, found again, built anew", builds),
        ("a step fails that shows its secret", a_step_fails),
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
    let is_built_anew = Cell::new(false);
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

        // The program has no part in this.
        if !is_built_anew.replace(true) {
            let anew = account.workspace(&host, cli, json!({ "marker": marker, "cache": false }))?;
            anew.apply()?;
            anew.converged()?;
            assert_ne!(anew.text(IMAGE, "image_id")?, id);
            assert_eq!(account.more()?, images(2));
            anew.destroy()?;
        }
        for workspace in [&workspace, &other] {
            workspace.destroy()?;
        }
        account.ensure_as_before()?;
        host.inventory()?.ensure_empty()
    })
}

fn a_step_fails(account: &Account) -> Result<()> {
    let host = Host::new()?;
    let script = fs::read_to_string(secrets::script())?;
    let command = format!("python3 - <<'END'\n{script}END\necho the reason; exit 7");
    let mut workspace =
        account.workspace(&host, Cli::Tofu, json!({ "marker": "fails", "command": command }))?;
    secrets::trace(&host, &mut workspace)?;
    workspace.env("TF_VAR_secret", SECRETS[0]);
    let outcome = workspace.apply_with(&[])?;
    secrets::ensure_kept(&host, &outcome, &Pieces::of(&SECRETS[..1])?)?;
    let log = log(&host);
    ensure!(log.contains("all forms were shown") && log.matches("(redacted)").count() > 25, "{log}");
    let errors = outcome.fails()?;
    let logs = host.data_dir().join("logs").display().to_string();
    for words in ["failed with exit code 7", "image: the reason", &logs] {
        ensure!(errors.iter().any(|error| error.mentions(words)), "no {words:?} in {errors:?}");
    }
    account.ensure_as_before()?;
    host.inventory()?.ensure_empty()
}

fn interrupted(account: &Account) -> Result<()> {
    let host = Host::new()?;
    let (_workspace, running) = amid_a_step(account, &host, "interrupted")?;
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
    let (_workspace, running) = amid_a_step(account, &host, "orphaned")?;
    running.kill_provider()?;
    running.wait(PATIENCE)?.fails()?;
    // By the supervisor, and without anybody's doing.
    account.ensure_settled(&host)?;
    account.release()
}

fn both_killed(account: &Account) -> Result<()> {
    let host = Host::new()?;
    let (workspace, running) = amid_a_step(account, &host, "abandoned")?;
    assert_eq!(kill_with_supervisor(&host, running)?, 1);
    assert_eq!(account.more()?.get("instances"), Some(&1));
    account.release()?;
    account.ensure_builds_one(&host, &workspace)
}

/// Only tags tell of what was built there.
fn computer_lost(account: &Account) -> Result<()> {
    let others = account.somebody_else_builds()?;
    let theirs = account.moto.inventory()?;
    let host = Host::new()?;
    let (workspace, running) = amid_a_step(account, &host, "lost")?;
    switch_off(&host, running)?;
    fs::remove_dir_all(host.data_dir())?;
    account.release()?;

    // It might go on elsewhere.
    let left = account.moto.inventory()?;
    sweep(&workspace, &[])?;
    assert_eq!(account.moto.inventory()?, left, "what might go on was removed");
    account.run_out(&theirs)?;
    workspace.apply()?;
    let mut expected = others.clone();
    expected.extend(images(1));
    assert_eq!(account.more()?, expected);
    workspace.destroy()?;
    sweep(&workspace, &[])?;
    assert_eq!(account.moto.inventory()?, theirs);
    account.end_others()
}

fn swept_by_hand(account: &Account) -> Result<()> {
    let host = Host::new()?;
    let (workspace, running) = amid_a_step(account, &host, "swept")?;
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
