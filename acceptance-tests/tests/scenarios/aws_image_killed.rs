//! `sindri_image` on AWS, when its provider or its host is killed, or the user interrupts.

use std::fs;
use std::time::{Duration, Instant};

use acceptance_tests::account::PATIENCE;
use acceptance_tests::{Cli, Fault, Host, each_cli, within};
use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::aws_image::{FRIEND, HOME, IMAGE, THERE, aws, built, nothing_left, scenario, set_aws};
use crate::aws_launch::interrupted_amid;

/// Killed while a copy is made: no state knows who holds the image.
#[test]
fn a_killed_apply_keeps_no_image_for_ever() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace) = scenario(&host, Cli::Tofu)?;
    built(&moto, &workspace)?;
    set_aws(&workspace, json!({ "ami_regions": [THERE] }))?;
    moto.images_take(Duration::from_secs(5), None)?;
    let running = workspace.start_apply()?;
    within(PATIENCE, || {
        ensure!(moto.requests()?.contains_key("CopyImage"), "no copy is made");
        Ok(())
    })?;
    running.kill_provider()?;
    running.wait(PATIENCE)?.fails()?;
    workspace.apply()?;
    workspace.converged()?;
    let destroyed = workspace.destroy()?;
    ensure!(destroyed.warnings().is_empty(), "{destroyed}");
    nothing_left(&moto)?;
    host.inventory()?.ensure_empty()
}

/// The host forgets what we keep beside the state then, the claim among it.
#[test]
fn a_provider_that_is_killed_amid_an_update_still_holds_its_image() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        for unread in [&[][..], &["-refresh=false"]] {
            let (moto, workspace) = scenario(&host, cli)?;
            built(&moto, &workspace)?;
            workspace.apply()?;
            set_aws(&workspace, json!({ "share": { "account_ids": [FRIEND] } }))?;
            moto.fault("ModifyImageAttribute", 1, Fault::Late { seconds: 20 })?;
            moto.forget_requests()?;
            let running = workspace.start_apply()?;
            within(PATIENCE, || {
                ensure!(moto.requests()?.contains_key("ModifyImageAttribute"), "nothing is shared");
                Ok(())
            })?;
            running.kill_provider()?;
            running.wait(PATIENCE)?.fails()?;
            workspace.apply_with(unread)?.succeeds()?;
            workspace.converged()?;
            let destroyed = workspace.destroy()?;
            ensure!(destroyed.warnings().is_empty(), "{unread:?}: {destroyed}");
            nothing_left(&moto)?;
        }
        Ok(())
    })
}

#[test]
fn an_interrupt_does_not_wait_for_an_answer() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace) = scenario(&host, Cli::Tofu)?;
    let (plan, apply) = (&["plan", "-json"][..], &["apply", "-json", "-auto-approve"][..]);
    let amid = |action: &str, after, command: &[&str]| {
        interrupted_amid(&moto, &workspace, action, after, command).map(drop)
    };
    let shared = |name: &str, value: Value| {
        let mut variables = aws(json!({ "share": { "account_ids": [FRIEND] } }));
        variables[name] = value;
        workspace.variables(&variables)
    };
    shared("tags", json!({ "team": "a" }))?;
    let id = built(&moto, &workspace)?;
    moto.forget_requests()?;
    workspace.plan()?;
    let looks = u32::try_from(moto.requests()?["DescribeImages"])?;
    amid("DescribeImages", 0, plan)?;
    workspace.write("import.tf", &format!("import {{\n  to = {IMAGE}\n  id = \"aws/{HOME}/{id}\"\n}}\n"))?;
    amid("DescribeImages", 0, plan)?;
    fs::remove_file(workspace.path().join("import.tf"))?;
    for (action, after) in [("GetCallerIdentity", 0), ("DescribeImages", looks)] {
        amid(action, after, apply)?;
        ensure!(workspace.state(IMAGE)?.is_none(), "{action}: an image that was not claimed is in state");
    }
    // Here it is in state, and is not claimed for good.
    amid("CreateTags", 2, apply)?;
    ensure!(workspace.state(IMAGE)?.is_some(), "the image is lost");
    workspace.destroy()?;
    nothing_left(&moto)?;

    let id = built(&moto, &workspace)?;
    workspace.apply()?;
    for action in ["DescribeImages", "DescribeImageAttribute"] {
        amid(action, 0, plan)?;
    }
    // Gone, as it seems: whose account is this?
    moto.ec2("DeregisterImage", &[("ImageId", &id)])?;
    for action in ["GetCallerIdentity", "DescribeSnapshots"] {
        amid(action, 0, plan)?;
    }
    workspace.destroy()?;
    // What the emulator keeps of it says nothing of its image.
    let before = moto.inventory()?;
    built(&moto, &workspace)?;
    workspace.apply()?;
    shared("tags", json!({ "team": "b" }))?;
    amid("CreateTags", 0, apply)?;
    assert_eq!(workspace.plan()?.action(IMAGE), "update");
    workspace.apply()?;
    workspace.converged()?;

    // Nor does a limit.
    shared("timeouts", json!({ "read": "5s" }))?;
    workspace.apply()?;
    moto.fault("DescribeImageAttribute", 1, Fault::Late { seconds: 40 })?;
    let since = Instant::now();
    let errors = workspace.plan_fails()?;
    ensure!(errors.iter().any(|one| one.mentions("timeouts.read")), "{errors:?}");
    ensure!(since.elapsed() < Duration::from_secs(20), "{:?} with a limit of 5 s", since.elapsed());
    moto.heal()?;
    amid("DeregisterImage", 0, &["destroy", "-json", "-auto-approve"])?;
    workspace.destroy()?;
    ensure!(moto.inventory()? == before, "left behind: {:?}, and there was {before:?}", moto.inventory()?);
    Ok(())
}
