//! `sindri_image` on AWS: found, held, looked at, deleted. Against the rig's EC2, where complete images are registered by
//! somebody else: nothing is really built here.

use std::cell::Cell;

use acceptance_tests::{Cli, Diagnostic, Fault, Host, Moto, Severity, Workspace, each_cli, merged};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

pub(crate) const IMAGE: &str = "sindri_image.it[0]";
pub(crate) const HOME: &str = "us-west-2";
pub(crate) const THERE: &str = "eu-central-1";
pub(crate) const FAR: &str = "ap-south-1";
pub(crate) const FRIEND: &str = "111111111111";
pub(crate) const OTHER: &str = "222222222222";
pub(crate) const DENIED: Fault<'_> =
    Fault::Error { status: 403, code: "UnauthorizedOperation", message: "You may not." };

/// An EC2, and a workspace that uses it.
pub(crate) fn scenario(host: &Host, cli: Cli) -> Result<(Moto, Workspace)> {
    let moto = Moto::start()?;
    let mut workspace = host.workspace(cli, "aws-image-settings")?;
    moto.serve(&mut workspace);
    Ok((moto, workspace))
}

/// What `aws` holds; the images of the rig are not encrypted.
pub(crate) fn aws(more: Value) -> Value {
    json!({ "aws": merged(json!({ "encrypt_boot": false }), more) })
}

/// An image in another region and in another account, for a while.
pub(crate) fn spread() -> Value {
    json!({ "ami_regions": [THERE], "share": { "account_ids": [FRIEND] }, "deprecate_after": "2160h" })
}

pub(crate) fn set_aws(workspace: &Workspace, more: Value) -> Result<()> {
    workspace.variables(&aws(more))
}

/// Registers a complete image of what is planned, as a build leaves it.
pub(crate) fn built(moto: &Moto, workspace: &Workspace) -> Result<String> {
    let plan = workspace.plan()?;
    let planned = plan.change(IMAGE).context("nothing planned")?;
    assert_eq!(planned.after_unknown["image_id"], true, "{plan}");
    let key = planned.after["cache_key"].as_str().context("no key")?;
    let name = format!("it-0-{}-0a1b2c", &key[..12]);
    register(moto, &name, &[("sindri_key", key), ("sindri_base", "ami-base")])
}

pub(crate) fn register(moto: &Moto, name: &str, tags: &[(&str, &str)]) -> Result<String> {
    moto.register(HOME, name, tags)
}

pub(crate) fn described(moto: &Moto, region: &str, id: &str) -> Result<String> {
    moto.ec2_in(region, "DescribeImages", &[("Filter.1.Name", "image-id"), ("Filter.1.Value.1", id)])
}

pub(crate) fn permissions(moto: &Moto, region: &str, id: &str) -> Result<String> {
    moto.ec2_in(region, "DescribeImageAttribute", &[("ImageId", id), ("Attribute", "launchPermission")])
}

/// The snapshots of an image in a region, as EC2 tells of them.
pub(crate) fn of_snapshots(moto: &Moto, workspace: &Workspace, region: &str) -> Result<String> {
    let image = workspace.resource(IMAGE)?;
    let ids = image["artifacts"][region]["snapshot_ids"].as_array().context("no snapshots")?;
    ensure!(ids.len() == 1, "{image}");
    moto.ec2_in(region, "DescribeSnapshots", &[("SnapshotId.1", ids[0].as_str().unwrap_or_default())])
}

/// The id of the copy that state knows of.
pub(crate) fn copy(workspace: &Workspace, region: &str) -> Result<String> {
    let image = workspace.resource(IMAGE)?;
    let id = image["artifacts"][region]["image_id"].as_str();
    id.map(str::to_owned).with_context(|| format!("no copy in {region}: {image}"))
}

pub(crate) fn nothing_left(moto: &Moto) -> Result<()> {
    let mut left = moto.inventory()?;
    left.retain(|_, ids| !ids.is_empty());
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

pub(crate) fn wrote(moto: &Moto) -> Result<Vec<String>> {
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
fn drift_is_noticed_and_mended() -> Result<()> {
    // Which kinds there are is the same to both programs: the second one sees the first and the last.
    let is_first = Cell::new(true);
    each_cli(|cli| {
        let host = Host::new()?;
        let (moto, workspace) = scenario(&host, cli)?;
        let id = built(&moto, &workspace)?;
        let mut variables = aws(spread());
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
        let step = if is_first.replace(false) { 1 } else { drifts.len() - 1 };
        for (region, action, parameters) in drifts.into_iter().step_by(step) {
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
