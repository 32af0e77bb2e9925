//! `sindri_image` on AWS: copies in other regions, who may use them, and how they age.

use std::time::Duration;

use acceptance_tests::{Cli, Diagnostic, Fault, Host, each_cli};
use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::aws_image::{
    DENIED, FAR, FRIEND, HOME, IMAGE, OTHER, THERE, aws, built, copy, described, nothing_left, of_snapshots,
    permissions, scenario, set_aws, spread, wrote,
};

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
fn copies_shares_and_ages_come_and_go() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let (moto, workspace) = scenario(&host, cli)?;
        let id = built(&moto, &workspace)?;
        set_aws(&workspace, spread())?;
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
