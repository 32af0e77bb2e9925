//! `sindri_image` on AWS: how many requests it costs, and what becomes of those that EC2 has no time for.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use acceptance_tests::{Cli, Diagnostic, Fault, Host, each_cli};
use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::aws_image::{
    DENIED, FRIEND, HOME, IMAGE, THERE, aws, built, nothing_left, register, scenario, set_aws, spread,
};
use crate::aws_image_import::adopting;

/// A proxy says 429 in its own words, if it says any.
#[test]
fn what_ec2_has_no_time_for_is_asked_again() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let (moto, workspace) = scenario(&host, cli)?;
        built(&moto, &workspace)?;
        let busy = |code| Fault::Error { status: 429, code, message: "Later." };
        let faults = [Fault::THROTTLED, busy("RequestLimitExceeded"), busy("TooManyRequests"), Fault::Reset];
        let hit = |actions: &[&str]| -> Result<()> {
            for action in actions {
                faults.iter().try_for_each(|fault| moto.fault(action, 1, *fault))?;
            }
            Ok(())
        };
        hit(&[
            "DescribeImages",
            "CreateTags",
            "CopyImage",
            "ModifyImageAttribute",
            "EnableImageDeprecation",
        ])?;
        set_aws(&workspace, spread())?;
        let applied = workspace.apply()?;
        ensure!(applied.warnings().is_empty(), "{applied}");
        assert_eq!(moto.inventory()?["images"].len(), 2);
        hit(&["DescribeImageAttribute", "DescribeImages"])?;
        workspace.converged()?;
        hit(&["DeregisterImage", "DeleteSnapshot", "DeleteTags"])?;
        let destroyed = workspace.destroy()?;
        ensure!(destroyed.warnings().is_empty(), "{destroyed}");
        nothing_left(&moto)
    })
}

#[test]
fn a_hundred_images_are_read_with_few_requests() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace) = scenario(&host, Cli::Tofu)?;
    let key = "0".repeat(63);
    let ids: Vec<String> = (0..100)
        .map(|number| register(&moto, &format!("many-{number}"), &[("sindri_key", key.as_str())]))
        .collect::<Result<_>>()?;
    adopting(&workspace, &ids, "")?;
    workspace.apply()?;
    moto.forget_requests()?;
    workspace.plan()?;
    let requests = moto.requests()?;
    ensure!(requests.values().sum::<u64>() <= 10, "{requests:?}");
    Ok(())
}

/// Plan and apply together. The Packer only says that it made the image: what is counted is ours.
#[test]
fn a_build_asks_ec2_for_little() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let (moto, workspace) = scenario(&host, cli)?;
        let (base, made) = (register(&moto, "base", &[])?, register(&moto, "made", &[])?);
        let packer = workspace.path().join("packer");
        let told = format!("echo 1,a.i,artifact,0,builder-id,x; echo '1,a.i,artifact,0,id,{HOME}:{made}'");
        let text = format!("#!/bin/sh\ncase $1 in version) echo Packer v1.6.6;; build) {told};; esac\n");
        fs::write(&packer, text)?;
        fs::set_permissions(&packer, fs::Permissions::from_mode(0o755))?;
        workspace.write(
            "main.tf",
            &format!(
                "terraform {{\n  required_providers {{ sindri = {{ source = \"sindri/sindri\" }} }}\n}}\nprovider \"sindri\" {{\n  packer = {{ binary = {packer:?} }}\n}}\nresource \"sindri_image\" \"it\" {{\n  count       = 1\n  name_prefix = \"it\"\n  aws         = {{ source_image = {base:?}, encrypt_boot = false, allowed_cidrs = [\"203.0.113.7/32\"] }}\n}}\n"
            ),
        )?;
        moto.forget_requests()?;
        workspace.apply()?;
        let requests = moto.requests()?;
        ensure!(requests.values().sum::<u64>() <= 19, "{requests:?}");
        assert_eq!(workspace.text(IMAGE, "image_id")?, made);
        workspace.converged()?;
        workspace.destroy()?;
        assert_eq!(moto.inventory()?["images"], [base.as_str()]);
        Ok(())
    })
}

#[test]
fn sharing_costs_one_request_an_image_and_region_where_it_is_managed() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace) = scenario(&host, Cli::Tofu)?;
    let mut variables = aws(json!({ "share": { "account_ids": [FRIEND] }, "ami_regions": [THERE] }));
    variables["images"] = json!(5);
    workspace.variables(&variables)?;
    let plan = workspace.plan()?;
    for change in &plan.changes {
        let key = change.after["cache_key"].as_str().context("no key")?;
        register(&moto, &format!("many-{key}"), &[("sindri_key", key)])?;
    }
    workspace.apply()?;
    moto.forget_requests()?;
    workspace.plan()?;
    let requests = moto.requests()?;
    // One in each region.
    assert_eq!(requests.get("DescribeImageAttribute"), Some(&10), "{requests:?}");
    ensure!(requests["DescribeImages"] <= 6, "{requests:?}");
    workspace.destroy()?;
    nothing_left(&moto)
}

/// The key is of the base as it is asked for: nothing else tells that there is another one now.
#[test]
fn a_newer_base_is_told_with_one_request() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let (moto, workspace) = scenario(&host, cli)?;
        let base = register(&moto, "base-1", &[])?;
        let mut variables = aws(json!({ "source_filter": { "name": "base-*", "owners": ["self"] } }));
        variables["images"] = json!(5);
        workspace.variables(&variables)?;
        for change in &workspace.plan()?.changes {
            let key = change.after["cache_key"].as_str().context("no key")?;
            register(&moto, &format!("many-{key}"), &[("sindri_key", key), ("sindri_base", &base)])?;
        }
        workspace.apply()?;
        let warnings = |arguments: &[&str]| -> Result<Vec<Diagnostic>> {
            let arguments = [&["plan", "-json"], arguments].concat();
            Ok(workspace.run(&arguments)?.succeeds()?.warnings())
        };
        assert_eq!(warnings(&[])?.len(), 0);
        // EC2's times are of seconds.
        std::thread::sleep(Duration::from_millis(1100));
        let newer = register(&moto, "base-2", &[])?;
        moto.forget_requests()?;
        let told = warnings(&[])?;
        let names = |one: &Diagnostic| [&base, &newer, "base-2", "max_age"].iter().all(|it| one.mentions(it));
        ensure!(!told.is_empty() && told.iter().all(names), "{told:?}");
        assert_eq!(moto.requests()?["DescribeImages"], 2, "ours, and the filter's");
        workspace.converged()?;
        // The newest may be on a later page.
        moto.pages(1)?;
        ensure!(warnings(&[])?.iter().any(names), "what is on a later page is not seen");
        moto.pages(1000)?;

        // Ours are listed first.
        moto.fault_after("DescribeImages", 1, 1, DENIED)?;
        assert_eq!(warnings(&[])?.len(), 0);
        variables["marker"] = "two".into();
        workspace.variables(&variables)?;
        moto.forget_requests()?;
        assert_eq!(warnings(&[])?.len(), 0, "a new image has the newer base anyway");
        assert_eq!(moto.requests()?["DescribeImages"], 1);
        workspace.destroy().map(drop)
    })
}

#[test]
fn nobody_asks_aws_about_images_of_this_computer() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace) = scenario(&host, Cli::Tofu)?;
    workspace.write(
        "main.tf",
        "terraform {\n  required_providers { sindri = { source = \"sindri/sindri\" } }\n}\nresource \"sindri_image\" \"it\" {\n  name_prefix = \"it\"\n  qemu        = { base = { bootstrap = { suite = \"bookworm\" } } }\n}\n",
    )?;
    assert_eq!(workspace.plan()?.action("sindri_image.it"), "create");
    ensure!(moto.requests()?.is_empty(), "{:?}", moto.requests()?);
    Ok(())
}
