//! Data sources on AWS, against the rig's EC2, which somebody else fills.

use acceptance_tests::{Cli, Diagnostic, Fault, Host, Moto, Workspace, each_cli};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::aws_launch::interrupted_amid;

fn prerequisites(workspace: &Workspace) -> Result<(Value, Vec<Value>)> {
    let found = workspace.resource("data.sindri_prerequisites.aws")?;
    let all = found["prerequisites"].as_array().context("no list")?.clone();
    Ok((found["satisfied"].clone(), all))
}

#[test]
fn promoted_images_are_found_in_their_region() -> Result<()> {
    each_cli(|cli| {
        let (host, moto) = (Host::new()?, Moto::start()?);
        let mut workspace = host.workspace(cli, "aws-lookup")?;
        moto.serve(&mut workspace);
        let key = "0".repeat(63);
        let ours = [("sindri_key", key.as_str()), ("sindri_channel_production", "promoted"), ("team", "a")];
        moto.register("us-west-2", "web-1", &ours)?;
        moto.register("us-west-2", "web-2", &ours[..1])?;
        moto.register("us-west-2", "foreign", &[("sindri_channel_production", "promoted")])?;
        moto.register("eu-central-1", "web-eu", &ours)?;
        workspace.apply()?;
        workspace.converged()?;
        let found = workspace.resource("data.sindri_image.production")?;
        assert_eq!(found["image"]["image_name"], "web-1");
        assert_eq!(found["image"]["channels"], json!(["production"]));
        assert_eq!(found["image"]["tags"], json!({ "team": "a" }));
        let names = workspace.output("names")?;
        let mut names: Vec<_> =
            names.as_array().context("no list")?.iter().filter_map(Value::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["web-1", "web-2"]);
        let (satisfied, all) = prerequisites(&workspace)?;
        assert_eq!(satisfied, true, "{all:?}");
        ensure!(all[0]["hint"].as_str().is_some_and(|arn| arn.starts_with("arn:aws:")), "{all:?}");

        workspace.variables(&json!({ "region": "eu-central-1" }))?;
        workspace.apply()?;
        assert_eq!(workspace.output("names")?, json!(["web-eu"]));
        workspace.variables(&json!({ "region": "ap-south-1" }))?;
        let errors = workspace.apply_with(&[])?.fails()?;
        let told = |error: &Diagnostic| error.mentions("no such image") && error.mentions("ap-south-1");
        ensure!(errors.iter().any(told), "{errors:?}");
        Ok(())
    })
}

#[test]
fn a_missing_permission_is_a_prerequisite_by_name() -> Result<()> {
    let (host, moto) = (Host::new()?, Moto::start()?);
    let mut workspace = host.workspace(Cli::Tofu, "empty")?;
    moto.serve(&mut workspace);
    workspace.write(
        "main.tf",
        "terraform {\n  required_providers { sindri = { source = \"sindri/sindri\" } }\n}\ndata \"sindri_prerequisites\" \"aws\" { cloud = \"aws\" }\n",
    )?;
    let denied = Fault::Error { status: 403, code: "UnauthorizedOperation", message: "You may not." };
    moto.fault("DescribeKeyPairs", 100, denied)?;
    workspace.apply()?;
    let (satisfied, all) = prerequisites(&workspace)?;
    assert_eq!(satisfied, false);
    let missing: Vec<_> = all.iter().filter(|one| one["state"] != "ok").collect();
    ensure!(missing.len() == 1 && missing[0]["name"] == "ec2:DescribeKeyPairs", "{missing:?}");
    ensure!(missing[0]["hint"].as_str().is_some_and(|hint| hint.contains("policy")), "{missing:?}");
    moto.heal()?;

    // What only some uses need is named, too.
    for action in ["RunInstances", "CreateTags", "CopyImage"] {
        moto.fault(action, 100, denied)?;
    }
    let before = moto.inventory()?;
    workspace.apply()?;
    let (satisfied, all) = prerequisites(&workspace)?;
    let missing = all.iter().filter(|one| one["state"] != "ok");
    let missing: Vec<_> = missing.filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(missing, ["ec2:CreateTags", "ec2:RunInstances", "ec2:CopyImage"]);
    assert_eq!((satisfied, moto.inventory()?), (json!(true), before), "a dry run had an effect");
    moto.heal()?;

    let expired = Fault::Error { status: 403, code: "ExpiredToken", message: "The token has expired." };
    moto.fault("GetCallerIdentity", 100, expired)?;
    workspace.apply()?;
    let (satisfied, all) = prerequisites(&workspace)?;
    assert_eq!(satisfied, false);
    ensure!(all.len() == 1 && all[0]["state"] == "unusable", "{all:?}");
    Ok(())
}

#[test]
fn an_interrupt_does_not_wait_for_an_answer() -> Result<()> {
    let (host, moto) = (Host::new()?, Moto::start()?);
    let mut workspace = host.workspace(Cli::Tofu, "aws-lookup")?;
    moto.serve(&mut workspace);
    interrupted_amid(&moto, &workspace, "DescribeImages", 0, &["plan", "-json"]).map(drop)
}

#[test]
fn a_region_of_this_computer_is_refused() -> Result<()> {
    let host = Host::new()?;
    let workspace = host.workspace(Cli::Tofu, "empty")?;
    workspace.write(
        "main.tf",
        "terraform {\n  required_providers { sindri = { source = \"sindri/sindri\" } }\n}\ndata \"sindri_images\" \"all\" {\n  cloud  = \"qemu\"\n  region = \"us-west-2\"\n}\n",
    )?;
    let errors = workspace.plan_fails()?;
    ensure!(
        errors.iter().any(|error| error.mentions("no regions") && error.code.contains("region")),
        "{errors:?}"
    );
    Ok(())
}

#[test]
fn a_role_is_taken_on_as_configured_or_by_a_web_identity() -> Result<()> {
    let (host, moto) = (Host::new()?, Moto::start()?);
    let mut workspace = host.workspace(Cli::Tofu, "empty")?;
    moto.serve(&mut workspace);
    let asks = "terraform {\n  required_providers { sindri = { source = \"sindri/sindri\" } }\n}\ndata \"sindri_prerequisites\" \"aws\" { cloud = \"aws\" }\n";
    let role = "arn:aws:iam::123456789012:role/ci";
    let provider = format!(
        "provider \"sindri\" {{\n  aws = {{ assume_role = {{ role_arn = \"{role}\", session_name = \"nightly\" }} }}\n}}\n"
    );
    let acts_as = |workspace: &Workspace, session: &str| -> Result<()> {
        workspace.apply()?;
        let (satisfied, all) = prerequisites(workspace)?;
        let arn = all[0]["hint"].as_str().context("no ARN")?;
        ensure!(satisfied == true && arn.ends_with(&format!("assumed-role/ci/{session}")), "{all:?}");
        Ok(())
    };
    workspace.write("main.tf", &format!("{asks}{provider}"))?;
    acts_as(&workspace, "nightly")?;
    ensure!(moto.requests()?.contains_key("AssumeRole"), "{:?}", moto.requests()?);

    // As a CI does: no key, but a token that says who runs.
    let token = host.path().join("token");
    std::fs::write(&token, "a.b.c")?;
    workspace
        .env("AWS_ACCESS_KEY_ID", "")
        .env("AWS_SECRET_ACCESS_KEY", "")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ROLE_ARN", role)
        .env("AWS_ROLE_SESSION_NAME", "run-1")
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().context("a path")?);
    workspace.write("main.tf", asks)?;
    acts_as(&workspace, "run-1")?;
    ensure!(moto.requests()?.contains_key("AssumeRoleWithWebIdentity"), "{:?}", moto.requests()?);
    Ok(())
}
