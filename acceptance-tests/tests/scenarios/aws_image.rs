//! `sindri_image` on AWS: found, adopted, copied, shared, aged, imported, deleted. Against the rig's EC2, where
//! complete images are registered by somebody else: nothing is really built here.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use acceptance_tests::account::PATIENCE;
use acceptance_tests::{Cli, Diagnostic, Fault, Host, Moto, Severity, Workspace, each_cli, within};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::aws_launch::interrupted_amid;

const IMAGE: &str = "sindri_image.it[0]";
const HOME: &str = "us-west-2";
const THERE: &str = "eu-central-1";
const FAR: &str = "ap-south-1";
const FRIEND: &str = "111111111111";
const OTHER: &str = "222222222222";
const DENIED: Fault<'_> =
    Fault::Error { status: 403, code: "UnauthorizedOperation", message: "You may not." };

/// An EC2, and a workspace that uses it.
fn scenario(host: &Host, cli: Cli) -> Result<(Moto, Workspace)> {
    let moto = Moto::start()?;
    let mut workspace = host.workspace(cli, "aws-image-settings")?;
    moto.serve(&mut workspace);
    Ok((moto, workspace))
}

/// What `aws` holds; the images of the rig are not encrypted.
fn aws(more: Value) -> Value {
    let mut aws = json!({ "encrypt_boot": false });
    if let (Some(all), Value::Object(more)) = (aws.as_object_mut(), more) {
        all.extend(more);
    }
    json!({ "aws": aws })
}

fn set_aws(workspace: &Workspace, more: Value) -> Result<()> {
    workspace.variables(&aws(more))
}

/// Registers a complete image of what is planned, as a build leaves it.
fn built(moto: &Moto, workspace: &Workspace) -> Result<String> {
    let plan = workspace.plan()?;
    let planned = plan.change(IMAGE).context("nothing planned")?;
    assert_eq!(planned.after_unknown["image_id"], true, "{plan}");
    let key = planned.after["cache_key"].as_str().context("no key")?;
    let name = format!("it-0-{}-0a1b2c", &key[..12]);
    register(moto, &name, &[("sindri_key", key), ("sindri_base", "ami-base")])
}

fn register(moto: &Moto, name: &str, tags: &[(&str, &str)]) -> Result<String> {
    moto.register(HOME, name, tags)
}

fn described(moto: &Moto, region: &str, id: &str) -> Result<String> {
    moto.ec2_in(region, "DescribeImages", &[("Filter.1.Name", "image-id"), ("Filter.1.Value.1", id)])
}

fn permissions(moto: &Moto, region: &str, id: &str) -> Result<String> {
    moto.ec2_in(region, "DescribeImageAttribute", &[("ImageId", id), ("Attribute", "launchPermission")])
}

/// The snapshots of an image in a region, as EC2 tells of them.
fn of_snapshots(moto: &Moto, workspace: &Workspace, region: &str) -> Result<String> {
    let image = workspace.resource(IMAGE)?;
    let ids = image["artifacts"][region]["snapshot_ids"].as_array().context("no snapshots")?;
    ensure!(ids.len() == 1, "{image}");
    moto.ec2_in(region, "DescribeSnapshots", &[("SnapshotId.1", ids[0].as_str().unwrap_or_default())])
}

/// The id of the copy that state knows of.
fn copy(workspace: &Workspace, region: &str) -> Result<String> {
    let image = workspace.resource(IMAGE)?;
    let id = image["artifacts"][region]["image_id"].as_str();
    id.map(str::to_owned).with_context(|| format!("no copy in {region}: {image}"))
}

fn nothing_left(moto: &Moto) -> Result<()> {
    let mut left = moto.inventory()?;
    left.retain(|_, ids| !ids.is_empty());
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

fn wrote(moto: &Moto) -> Result<Vec<String>> {
    let requests = moto.requests()?.into_keys();
    Ok(requests.filter(|action| !action.starts_with("Describe") && action != "GetCallerIdentity").collect())
}

#[test]
fn a_plan_shows_the_ami_and_its_last_holder_deletes_it() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let (moto, workspace) = scenario(&host, cli)?;
        workspace.variables(&json!({
            "tags": { "team": "a" }, "channels": ["development"], "description": "it", "default_tags": { "by": "sindri" },
        }))?;
        let id = built(&moto, &workspace)?;
        let plan = workspace.plan()?;
        let planned = plan.change(IMAGE).context("nothing planned")?;
        assert_eq!((&planned.after["image_id"], &planned.after["origin"]), (&json!(id), &json!("cached")));
        assert_eq!((&planned.after["cloud"], &planned.after["region"]), (&json!("aws"), &json!(HOME)));
        workspace.apply()?;
        workspace.converged()?;
        let image = workspace.resource(IMAGE)?;
        ensure!(image["store_id"].is_null() && image["resolved_base"] == "ami-base", "{image}");
        ensure!(image["artifacts"][HOME]["snapshot_ids"][0].is_string(), "{image}");
        let told = described(&moto, HOME, &id)?;
        for part in ["<key>team</key>", "<key>by</key>", "sindri_channel_development", "sindri_holder_"] {
            ensure!(told.contains(part), "no {part} in {told}");
        }

        let mut other = host.workspace(cli, "aws-image-settings")?;
        moto.serve(&mut other);
        other.apply()?;
        assert_eq!(other.text(IMAGE, "image_id")?, id);
        workspace.converged()?;
        let held = workspace.destroy()?;
        ensure!(held.warnings().iter().any(|one| one.mentions("still need it")), "{held}");
        other.converged()?;
        // For a while EC2 takes the snapshot for used by the AMI that was just deregistered.
        let message = "The snapshot is currently in use.";
        let lagging = Fault::Error { status: 400, code: "InvalidSnapshot.InUse", message };
        moto.fault("DeleteSnapshot", 2, lagging)?;
        let destroyed = other.destroy()?;
        ensure!(destroyed.warnings().is_empty(), "{destroyed}");
        nothing_left(&moto)
    })
}

/// The host plans again before it applies a plan, and does not say which of both it is. So an image that is gone by then
/// cannot be told in words of ours; one that goes still later is.
#[test]
fn an_image_that_is_deleted_after_the_plan_is_not_built_instead() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let (moto, workspace) = scenario(&host, cli)?;
        let id = built(&moto, &workspace)?;
        let plan = workspace.plan()?;
        assert_eq!(plan.change(IMAGE).context("nothing planned")?.after["image_id"], id, "{plan}");
        moto.forget_requests()?;
        let message = "The image does not exist.";
        let gone = Fault::Error { status: 400, code: "InvalidAMIID.NotFound", message };
        moto.fault("CreateTags", 1, gone)?;
        let errors = workspace.apply_plan()?.fails()?;
        let told = |error: &Diagnostic| error.mentions("Planned image is gone") && error.mentions(&id);
        ensure!(errors.len() == 1 && told(&errors[0]), "{errors:?}");

        workspace.plan()?;
        moto.ec2("DeregisterImage", &[("ImageId", id.as_str())])?;
        let errors = workspace.apply_plan()?.fails()?;
        ensure!(errors.iter().all(|error| error.mentions("inconsistent final plan")), "{errors:?}");
        ensure!(!moto.requests()?.contains_key("RunInstances"), "another is built than was planned");
        ensure!(workspace.state(IMAGE)?.is_none(), "an image that is gone is in state");
        host.inventory()?.ensure_empty()?;
        let plan = workspace.plan()?;
        assert_eq!(plan.change(IMAGE).context("nothing planned")?.after_unknown["image_id"], true, "{plan}");
        Ok(())
    })
}

#[test]
fn labels_that_a_copy_did_not_take_are_tried_again() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let (moto, workspace) = scenario(&host, cli)?;
        let id = built(&moto, &workspace)?;
        let mut variables = aws(json!({ "ami_regions": [THERE, FAR] }));
        workspace.variables(&variables)?;
        workspace.apply()?;
        variables["tags"] = json!({ "team": "a" });
        workspace.variables(&variables)?;
        moto.fault("CreateTags", 1, DENIED)?;
        let errors = workspace.apply_with(&[])?.fails()?;
        ensure!(errors.iter().any(|one| one.mentions("ec2:CreateTags") && one.mentions(FAR)), "{errors:?}");
        let there = copy(&workspace, THERE)?;
        ensure!(
            described(&moto, THERE, &there)?.contains("<key>team</key>"),
            "one failure stopped the other"
        );
        ensure!(!described(&moto, HOME, &id)?.contains("<key>team</key>"), "nobody will know what is left");
        assert_eq!(workspace.plan()?.action(IMAGE), "update");
        workspace.apply()?;
        workspace.converged()?;
        for (region, id) in [(HOME, id), (THERE, there), (FAR, copy(&workspace, FAR)?)] {
            for told in [described(&moto, region, &id)?, of_snapshots(&moto, &workspace, region)?] {
                ensure!(told.contains("<key>team</key>"), "no tag in {region}: {told}");
            }
        }
        variables["tags"] = json!({ "owner": "b" });
        variables["channels"] = json!(["production"]);
        workspace.variables(&variables)?;
        workspace.apply()?;
        workspace.converged()?;
        for region in [HOME, THERE, FAR] {
            let told = of_snapshots(&moto, &workspace, region)?;
            let is_right = told.contains("<key>owner</key>") && !told.contains("<key>team</key>");
            ensure!(is_right && !told.contains("sindri_channel"), "{region}: {told}");
        }
        workspace.destroy()?;
        nothing_left(&moto)
    })
}

#[test]
fn a_plan_without_a_look_holds_what_it_promised() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let (moto, workspace) = scenario(&host, cli)?;
        let id = built(&moto, &workspace)?;
        set_aws(&workspace, json!({ "ami_regions": [THERE] }))?;
        workspace.apply()?;
        let there = copy(&workspace, THERE)?;
        moto.ec2_in(THERE, "DeregisterImage", &[("ImageId", there.as_str())])?;
        set_aws(&workspace, json!({ "ami_regions": [THERE], "share": { "account_ids": [FRIEND] } }))?;
        workspace.apply_with(&["-refresh=false"])?.succeeds()?;
        workspace.apply()?;
        workspace.converged()?;
        let again = copy(&workspace, THERE)?;
        ensure!(again != there, "the copy is not made again");
        for (region, id) in [(HOME, &id), (THERE, &again)] {
            ensure!(permissions(&moto, region, id)?.contains(FRIEND), "not shared in {region}");
        }
        workspace.destroy().map(drop)
    })
}

#[test]
fn copies_shares_and_ages_come_and_go() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let (moto, workspace) = scenario(&host, cli)?;
        let id = built(&moto, &workspace)?;
        set_aws(
            &workspace,
            json!({ "ami_regions": [THERE], "share": { "account_ids": [FRIEND] }, "deprecate_after": "2160h" }),
        )?;
        // The answer is lost, and there is one copy all the same.
        moto.fault("CopyImage", 1, Fault::Drop)?;
        workspace.apply()?;
        workspace.converged()?;
        assert_eq!(moto.inventory()?["images"].len(), 2);
        let there = copy(&workspace, THERE)?;
        for (region, id) in [(HOME, &id), (THERE, &there)] {
            ensure!(described(&moto, region, id)?.contains("<deprecationTime>2"), "no age in {region}");
            ensure!(permissions(&moto, region, id)?.contains(FRIEND), "not shared in {region}");
        }
        let told = described(&moto, THERE, &there)?;
        ensure!(told.contains("sindri_copy_of") && !told.contains("sindri_holder"), "{told}");
        ensure!(!described(&moto, HOME, &id)?.contains("sindri_unfinished"), "a mark stays");

        // What others share stays theirs.
        let theirs = [("ImageId", id.as_str()), ("LaunchPermission.Add.1.UserId", "333333333333")];
        moto.ec2("ModifyImageAttribute", &theirs)?;
        workspace.converged()?;
        set_aws(
            &workspace,
            json!({ "ami_regions": [THERE, FAR], "share": { "account_ids": [OTHER], "public": true } }),
        )?;
        let plan = workspace.plan()?;
        assert_eq!(plan.action(IMAGE), "update", "{plan}");
        assert_eq!(plan.change(IMAGE).context("none")?.after_unknown["artifacts"], true);
        workspace.apply()?;
        workspace.converged()?;
        for (region, id) in [(HOME, id.clone()), (THERE, there), (FAR, copy(&workspace, FAR)?)] {
            ensure!(!described(&moto, region, &id)?.contains("<deprecationTime>2"), "still ages in {region}");
            let shared = permissions(&moto, region, &id)?;
            ensure!(
                shared.contains(OTHER) && shared.contains("<group>all") && !shared.contains(FRIEND),
                "{shared}"
            );
            assert_eq!(shared.contains("333333333333"), region == HOME, "{shared}");
        }

        set_aws(&workspace, json!({ "instance_type": "m5.large" }))?;
        workspace.apply()?;
        workspace.converged()?;
        assert_eq!(moto.inventory()?["images"], [id.as_str()]);
        assert_eq!(moto.inventory()?["snapshots"].len(), 1);
        let shared = permissions(&moto, HOME, &id)?;
        ensure!(
            shared.contains("333333333333") && !shared.contains(OTHER) && !shared.contains("all"),
            "{shared}"
        );

        // The builder's attributes are recorded, and nobody is asked for anything.
        set_aws(&workspace, json!({ "instance_type": "t3.large" }))?;
        moto.forget_requests()?;
        workspace.apply()?;
        ensure!(wrote(&moto)?.is_empty(), "{:?}", moto.requests()?);
        set_aws(&workspace, json!({ "volume_size_gb": 20 }))?;
        assert_eq!(workspace.plan()?.action(IMAGE), "replace");
        set_aws(&workspace, json!({ "region": THERE }))?;
        assert_eq!(workspace.plan()?.action(IMAGE), "replace");
        set_aws(&workspace, json!({ "region": HOME }))?;
        assert_eq!(workspace.plan()?.action(IMAGE), "update");
        workspace.destroy()?;
        nothing_left(&moto)
    })
}

#[test]
fn what_fails_in_one_region_is_tried_again_in_place() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let (moto, workspace) = scenario(&host, cli)?;
        let id = built(&moto, &workspace)?;
        set_aws(&workspace, json!({ "ami_regions": [THERE, FAR], "share": { "account_ids": [FRIEND] } }))?;
        moto.fault_after("CopyImage", 1, 1, DENIED)?;
        let told = workspace.apply()?;
        let warnings = told.warnings();
        let about = |one: &&Diagnostic| one.mentions("ec2:CopyImage") && one.mentions("aws.ami_regions");
        ensure!(warnings.iter().any(|one| about(&one)), "{told}");
        assert_eq!(moto.inventory()?["images"].len(), 2);
        let plan = workspace.plan()?;
        assert_eq!(plan.action(IMAGE), "update", "the image is not tainted: {plan}");
        workspace.apply()?;
        workspace.converged()?;
        assert_eq!(workspace.text(IMAGE, "image_id")?, id);

        // In the first copy it does not work: whoever is to lose access there is not forgotten.
        set_aws(&workspace, json!({ "ami_regions": [THERE, FAR], "share": { "account_ids": [OTHER] } }))?;
        moto.fault("ModifyImageAttribute", 1, DENIED)?;
        let errors = workspace.apply_with(&[])?.fails()?;
        ensure!(errors.iter().any(|one| one.mentions("ec2:ModifyImageAttribute")), "{errors:?}");
        let plan = workspace.plan()?;
        assert_eq!(plan.action(IMAGE), "update", "{plan}");
        workspace.apply()?;
        workspace.converged()?;
        for region in [THERE, FAR] {
            let shared = permissions(&moto, region, &copy(&workspace, region)?)?;
            ensure!(shared.contains(OTHER) && !shared.contains(FRIEND), "{region}: {shared}");
        }
        ensure!(!permissions(&moto, HOME, &id)?.contains(FRIEND), "still shared at home");

        set_aws(&workspace, json!({ "ami_regions": [THERE, FAR], "share": { "public": true } }))?;
        let blocked = Fault::Error {
            status: 400,
            code: "OperationNotPermitted",
            message: "You can't publicly share this image because block public access for AMIs is enabled.",
        };
        moto.fault_after("ModifyImageAttribute", 1, 1, blocked)?;
        let errors = workspace.apply_with(&[])?.fails()?;
        ensure!(
            errors.iter().any(|one| one.mentions("blocks public sharing") && one.mentions(FAR)),
            "{errors:?}"
        );
        workspace.apply()?;
        workspace.converged()?;
        workspace.destroy()?;
        nothing_left(&moto)
    })
}

/// EC2 takes minutes for a copy, and gives up on some.
#[test]
fn copies_take_their_time_and_some_fail() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace) = scenario(&host, Cli::Tofu)?;
    built(&moto, &workspace)?;
    set_aws(&workspace, json!({ "ami_regions": [THERE] }))?;
    moto.images_take(Duration::from_secs(2), Some("no room for it"))?;
    let told = workspace.apply()?.warnings();
    let said = |one: &Diagnostic| one.mentions("did not finish copy") && one.mentions("no room for it");
    ensure!(told.iter().any(said), "{told:?}");

    moto.images_take(Duration::from_secs(3), None)?;
    assert_eq!(workspace.plan()?.action(IMAGE), "update");
    workspace.apply()?;
    workspace.converged()?;
    let there = copy(&workspace, THERE)?;
    ensure!(described(&moto, THERE, &there)?.contains("available"), "the copy was not waited for");
    assert_eq!(moto.inventory()?["images"].len(), 2, "the failed copy is still there");

    // One that is still being made when the image goes.
    moto.images_take(Duration::from_secs(12), None)?;
    let mut variables = aws(json!({ "ami_regions": [THERE, FAR] }));
    variables["timeouts"] = json!({ "update": "5s" });
    workspace.variables(&variables)?;
    let late = workspace.apply_with(&[])?.fails()?;
    ensure!(late.iter().any(|one| one.mentions("was not ready in time")), "{late:?}");
    workspace.destroy()?;
    nothing_left(&moto)
}

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
        set_aws(
            &workspace,
            json!({ "ami_regions": [THERE], "share": { "account_ids": [FRIEND] }, "deprecate_after": "2160h" }),
        )?;
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

/// What everything is tagged with may come from a resource: an object can be looked at without.
#[test]
fn a_default_tag_that_is_not_known_yet_stops_no_plan() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let (moto, workspace) = scenario(&host, cli)?;
        workspace.variables(&json!({ "default_tags": { "by": "hand" } }))?;
        let id = built(&moto, &workspace)?;
        workspace.apply()?;
        workspace.edit(
            "main.tf",
            "default_tags = var.default_tags",
            "default_tags = { by = terraform_data.tag.id }",
        )?;
        workspace.write("tag.tf", "resource \"terraform_data\" \"tag\" {}\n")?;
        let plan = workspace.plan()?;
        let planned = plan.change(IMAGE).context("nothing planned")?;
        assert_eq!((planned.action(), planned.changed()), ("update", vec!["tags_all".to_owned()]), "{plan}");
        workspace.apply()?;
        workspace.converged()?;
        let tag = workspace.text("terraform_data.tag", "id")?;
        ensure!(described(&moto, HOME, &id)?.contains(&tag), "no tag {tag}");
        workspace.destroy()?;
        nothing_left(&moto)
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

#[test]
fn other_credentials_do_not_make_an_image_vanish() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace) = scenario(&host, Cli::Tofu)?;
    let id = built(&moto, &workspace)?;
    workspace.apply()?;
    workspace.variables(&json!({ "role": "arn:aws:iam::222222222222:role/other" }))?;
    let errors = workspace.plan_fails()?;
    ensure!(
        errors.iter().any(|one| one.mentions("222222222222") && one.mentions("123456789012")),
        "{errors:?}"
    );
    let errors = workspace.run(&["destroy", "-json", "-auto-approve", "-refresh=false"])?.fails()?;
    ensure!(errors.iter().any(|one| one.mentions("222222222222")), "{errors:?}");
    workspace.variables(&json!({}))?;
    workspace.converged()?;
    assert_eq!(moto.inventory()?["images"], [id.as_str()]);
    workspace.destroy()?;
    nothing_left(&moto)
}

#[test]
fn a_copy_without_a_record_is_found_and_none_is_begun_too_late() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace) = scenario(&host, Cli::Tofu)?;
    built(&moto, &workspace)?;
    let mut variables = aws(json!({ "ami_regions": [THERE] }));
    variables["timeouts"] = json!({ "create": "1ms" });
    workspace.variables(&variables)?;
    let told = workspace.apply_with(&[])?.fails()?;
    ensure!(told.iter().any(|one| one.mentions("longer than 1ms")), "{told:?}");
    ensure!(!moto.requests()?.contains_key("CopyImage"), "a copy was begun when the time was over");
    set_aws(&workspace, json!({}))?;
    workspace.apply()?;

    // The request after the one for the copy is to write its id down.
    set_aws(&workspace, json!({ "ami_regions": [THERE] }))?;
    moto.fault_after("CreateTags", 1, 1, DENIED)?;
    workspace.apply_with(&[])?.fails()?;
    assert_eq!(moto.inventory()?["images"].len(), 2);
    workspace.apply()?;
    workspace.converged()?;
    set_aws(&workspace, json!({ "ami_regions": [THERE, FAR] }))?;
    moto.fault_after("CreateTags", 1, 1, DENIED)?;
    workspace.apply_with(&[])?.fails()?;
    assert_eq!(moto.inventory()?["images"].len(), 3);
    let destroyed = workspace.destroy()?;
    ensure!(destroyed.warnings().is_empty(), "{destroyed}");
    nothing_left(&moto)
}

#[test]
fn drift_is_noticed_and_mended() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let (moto, workspace) = scenario(&host, cli)?;
        let id = built(&moto, &workspace)?;
        let mut variables = aws(
            json!({ "ami_regions": [THERE], "share": { "account_ids": [FRIEND] }, "deprecate_after": "2160h" }),
        );
        variables["tags"] = json!({ "team": "a" });
        variables["channels"] = json!(["production"]);
        workspace.variables(&variables)?;
        workspace.apply()?;
        workspace.converged()?;
        let there = copy(&workspace, THERE)?;
        let image = [("ImageId", id.as_str())];
        let tag = |value| [("ResourceId.1", id.as_str()), ("Tag.1.Key", "team"), ("Tag.1.Value", value)];
        let channel = [("ResourceId.1", id.as_str()), ("Tag.1.Key", "sindri_channel_production")];
        let stranger = [("ImageId", id.as_str()), ("LaunchPermission.Add.1.Group", "all")];
        let friend = [("ImageId", id.as_str()), ("LaunchPermission.Remove.1.UserId", FRIEND)];
        let of_copy = [("ImageId", there.as_str())];
        type Drift<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);
        let copied_stranger = [("ImageId", there.as_str()), ("LaunchPermission.Add.1.Group", "all")];
        let copied_friend = [("ImageId", there.as_str()), ("LaunchPermission.Remove.1.UserId", FRIEND)];
        let drifts: [Drift<'_>; 9] = [
            (HOME, "CreateTags", &tag("b")),
            (HOME, "DeleteTags", &channel),
            (HOME, "DisableImageDeprecation", &image),
            (HOME, "ModifyImageAttribute", &stranger),
            (HOME, "ModifyImageAttribute", &friend),
            (THERE, "ModifyImageAttribute", &copied_stranger),
            (THERE, "ModifyImageAttribute", &copied_friend),
            (THERE, "DisableImageDeprecation", &of_copy),
            (THERE, "DeregisterImage", &of_copy),
        ];
        for (region, action, parameters) in drifts {
            moto.ec2_in(region, action, parameters)?;
            let plan = workspace.plan()?;
            assert_eq!(plan.action(IMAGE), "update", "{action} in {region}: {plan}");
            workspace.apply()?;
            workspace.converged().with_context(|| format!("after {action} in {region}"))?;
        }
        let shared = permissions(&moto, THERE, &copy(&workspace, THERE)?)?;
        ensure!(shared.contains(FRIEND) && !shared.contains("<group>all"), "{shared}");
        assert_eq!(workspace.text(IMAGE, "image_id")?, id);
        let there = copy(&workspace, THERE)?;

        // The image is gone, its copy is not: it is not forgotten.
        moto.ec2("DeregisterImage", &image)?;
        let plan = workspace.plan()?;
        assert_eq!(plan.action(IMAGE), "replace", "{plan}");
        workspace.destroy()?;
        ensure!(!moto.inventory()?["images"].contains(&there), "the copy stays");
        Ok(())
    })
}

#[test]
fn an_imported_image_stays_as_it_is() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let (moto, workspace) = scenario(&host, cli)?;
        let id = built(&moto, &workspace)?;
        let mut variables = aws(
            json!({ "ami_regions": [THERE], "share": { "account_ids": [FRIEND] }, "deprecate_after": "2160h" }),
        );
        variables["tags"] = json!({ "team": "a" });
        variables["channels"] = json!(["production"]);
        variables["description"] = json!("what it is");
        workspace.variables(&variables)?;
        workspace.apply()?;
        workspace.forget(IMAGE)?;
        workspace.import(IMAGE, &format!("aws/{HOME}/{id}"))?.succeeds()?;
        moto.forget_requests()?;
        let plan = workspace.plan()?;
        assert_eq!(plan.action(IMAGE), "update", "{plan}");
        workspace.apply()?;
        ensure!(wrote(&moto)?.is_empty(), "recording inputs changed something: {:?}", moto.requests()?);
        workspace.converged()?;
        let image = workspace.resource(IMAGE)?;
        assert_eq!((&image["image_id"], &image["origin"]), (&json!(id), &json!("imported")));

        for (wrong, why) in [
            ("aws/us-west-2/ami-0123456789abcdef0".to_owned(), "there is no image"),
            (format!("aws/{id}"), "not what can be imported"),
        ] {
            workspace.forget(IMAGE)?;
            let refused = workspace.import(IMAGE, &wrong)?;
            let said = format!("{} {}", refused.stdout, refused.stderr).to_lowercase();
            let flat = said.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
            ensure!(!refused.success && flat.contains(why), "{wrong}: {refused}");
            workspace.import(IMAGE, &format!("aws/{HOME}/{id}"))?.succeeds()?;
        }
        // The claim on it may be that of a state that lives.
        let held = workspace.destroy()?;
        ensure!(held.warnings().iter().any(|one| one.mentions("imported and has no claim")), "{held}");
        let told = described(&moto, HOME, &id)?;
        let (_, rest) = told.split_once("sindri_holder_").context("the claim is gone")?;
        let claim = format!("sindri_holder_{}", rest.split('<').next().unwrap_or_default());
        moto.ec2("DeleteTags", &[("ResourceId.1", id.as_str()), ("Tag.1.Key", claim.as_str())])?;
        workspace.import(IMAGE, &format!("aws/{HOME}/{id}"))?.succeeds()?;
        workspace.destroy()?;
        nothing_left(&moto)?;

        // An image that nobody built with this provider is managed, and never deleted.
        let foreign = register(&moto, "foreign", &[("team", "a")])?;
        workspace.import(IMAGE, &format!("aws/{HOME}/{foreign}"))?.succeeds()?;
        workspace.variables(&json!({ "tags": { "team": "a" } }))?;
        assert_eq!(workspace.plan()?.action(IMAGE), "update");
        workspace.apply()?;
        workspace.converged()?;
        let errors = workspace.run(&["destroy", "-json", "-auto-approve"])?.fails()?;
        ensure!(errors.iter().any(|one| one.mentions("sindri_key")), "{errors:?}");
        assert_eq!(moto.inventory()?["images"], [foreign.as_str()]);
        workspace.forget(IMAGE)
    })
}

/// A configuration that adopts images by their ids.
fn adopting(workspace: &Workspace, ids: &[String], more: &str) -> Result<()> {
    let ids = json!(ids);
    workspace.write(
        "main.tf",
        &format!(
            "terraform {{\n  required_providers {{ sindri = {{ source = \"sindri/sindri\" }} }}\n}}\nresource \"sindri_image\" \"it\" {{\n  for_each          = toset({ids})\n  existing_image_id = each.key\n  aws               = {{ {more} }}\n}}\n"
        ),
    )
}

#[test]
fn an_adopted_image_is_left_as_it_is() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let (moto, workspace) = scenario(&host, cli)?;
        let id = register(&moto, "theirs", &[("team", "a")])?;
        adopting(&workspace, std::slice::from_ref(&id), "")?;
        workspace.apply()?;
        workspace.converged()?;
        let image = workspace.resource(&format!("sindri_image.it[{id:?}]"))?;
        assert_eq!((&image["origin"], &image["region"]), (&json!("existing"), &json!(HOME)));
        adopting(&workspace, std::slice::from_ref(&id), "region = \"eu-central-1\"")?;
        let errors = workspace.apply_with(&[])?.fails()?;
        ensure!(errors.iter().any(|one| one.mentions("there is no image")), "{errors:?}");
        adopting(&workspace, std::slice::from_ref(&id), "deprecate_after = \"1h\"")?;
        let errors = workspace.plan_fails()?;
        ensure!(
            errors.iter().any(|one| one.mentions("Conflicting") && one.mentions("aws.deprecate_after")),
            "{errors:?}"
        );
        workspace.destroy()?;
        assert_eq!(moto.inventory()?["images"], [id.as_str()]);
        ensure!(!described(&moto, HOME, &id)?.contains("sindri"), "it was touched");
        Ok(())
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

#[test]
fn a_missing_key_stops_builds_only() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let (moto, workspace) = scenario(&host, cli)?;
        let id = built(&moto, &workspace)?;
        let path = host.path().join("no-key");
        let mut variables = aws(json!({ "ssh_keypair_name": "mine", "ssh_private_key_path": path }));
        workspace.variables(&variables)?;
        workspace.apply()?;
        assert_eq!(workspace.text(IMAGE, "image_id")?, id);
        variables["marker"] = "two".into();
        workspace.variables(&variables)?;
        let errors = workspace.plan_fails()?;
        ensure!(errors[0].mentions("no-key") && errors[0].mentions("aws.ssh_private_key_path"), "{errors:?}");
        std::fs::write(&path, "")?;
        assert_eq!(workspace.plan()?.action(IMAGE), "replace");
        workspace.destroy()?;
        nothing_left(&moto)
    })
}

#[test]
fn mistakes_are_named() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let (moto, mut workspace) = scenario(&host, cli)?;
        let fails = |workspace: &Workspace, more: Value, words: &[&str]| -> Result<()> {
            set_aws(workspace, more)?;
            let errors = workspace.plan_fails()?;
            ensure!(errors.iter().all(|one| one.severity == Severity::Error), "{errors:?}");
            let told = |word: &&str| errors.iter().any(|one| one.mentions(word) || one.code.contains(*word));
            ensure!(words.iter().all(told), "{words:?} not in {errors:?}");
            Ok(())
        };
        fails(&workspace, json!({ "region": "us-west-2a" }), &["no region"])?;
        fails(
            &workspace,
            json!({ "encrypt_boot": true, "share": { "public": true } }),
            &["encrypted image public"],
        )?;
        fails(
            &workspace,
            json!({ "encrypt_boot": true, "share": { "account_ids": [FRIEND] } }),
            &["kms_key_id"],
        )?;
        fails(&workspace, json!({ "share": { "account_ids": ["1"] } }), &["12 digits"])?;
        fails(
            &workspace,
            json!({ "volume_size_gb": 3, "instance_type": "t4g.small" }),
            &["Other processors"],
        )?;
        let tags: serde_json::Map<_, _> = (0..40).map(|n| (format!("t{n}"), "x".into())).collect();
        workspace.variables(&json!({ "tags": tags }))?;
        let errors = workspace.plan_fails()?;
        ensure!(errors.iter().any(|one| one.mentions("50 tags") && one.code.contains("tags")), "{errors:?}");
        moto.fault("DescribeImages", 1, DENIED)?;
        fails(&workspace, json!({}), &["ec2:DescribeImages", "policy"])?;
        workspace
            .env("AWS_ACCESS_KEY_ID", "")
            .env("AWS_SECRET_ACCESS_KEY", "")
            .env("AWS_EC2_METADATA_DISABLED", "true");
        fails(&workspace, json!({}), &["no AWS credentials"])
    })
}
