//! `sindri_vm` on AWS: machines that somebody else launched.

use acceptance_tests::{Cli, Host, each_cli};
use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::aws_vm::{VM, nothing_left, scenario, with};

#[test]
fn an_imported_machine_stays_as_it_is() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let (moto, workspace, image) = scenario(&host, cli, "aws-vm-settings")?;
        let settings = json!({
            "tags": { "role": "it" },
            "user_data": "#!/bin/sh",
            "ssh": { "username": "admin" },
            "aws": { "root_volume": { "size_gb": 30 }, "allowed_cidrs": ["192.0.2.0/24"] },
        });
        workspace.variables(&with(&image, settings))?;
        workspace.apply()?;
        let id = workspace.text(VM, "id")?;
        workspace.forget(VM)?;
        // What it is called there is no reason to make it anew.
        moto.ec2("CreateTags", &[("ResourceId.1", &id), ("Tag.1.Key", "Name"), ("Tag.1.Value", "other")])?;
        workspace.import(VM, &format!("aws/us-west-2/{id}"))?.succeeds()?;
        moto.forget_requests()?;
        let plan = workspace.plan()?;
        assert_eq!(plan.action(VM), "update", "{plan}");
        workspace.apply()?;
        let requests = moto.requests()?;
        let mut writes: Vec<_> = requests.keys().filter(|action| !action.starts_with("Describe")).collect();
        writes.retain(|action| *action != "GetCallerIdentity");
        ensure!(writes.is_empty(), "recording inputs changed something: {requests:?}");
        workspace.converged()?;
        let vm = workspace.resource(VM)?;
        assert_eq!((&vm["id"], &vm["ssh_username"]), (&json!(id), &json!("admin")));

        for (wrong, why) in [
            ("aws/us-west-2/i-0123456789abcdef0".to_owned(), "there is no machine"),
            (format!("aws/eu-central-1/{id}"), "there is no machine"),
            (format!("aws/{id}"), "not what can be imported"),
        ] {
            workspace.forget(VM)?;
            let refused = workspace.import(VM, &wrong)?;
            let said = format!("{} {}", refused.stdout, refused.stderr).to_lowercase().replace("\n", " ");
            let flat = said.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
            ensure!(!refused.success && flat.contains(why), "{wrong}: {refused}");
            workspace.import(VM, &format!("aws/us-west-2/{id}"))?.succeeds()?;
        }
        workspace.destroy()?;
        nothing_left(&host, &moto)
    })
}

#[test]
fn a_machine_that_others_launched_has_its_own_groups() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace, image) = scenario(&host, Cli::Tofu, "aws-vm-settings")?;
    let group = |name: &str| -> Result<String> {
        let before = moto.inventory()?;
        moto.ec2("CreateSecurityGroup", &[("GroupName", name), ("GroupDescription", "of somebody else")])?;
        let mut there = moto.inventory()?["security_groups"].clone();
        there.retain(|id| !before["security_groups"].contains(id));
        there.pop().context("no group")
    };
    let (one, two) = (group("one")?, group("two")?);
    let machine = [
        ("ImageId", image.as_str()),
        ("InstanceType", "t3.micro"),
        ("MinCount", "1"),
        ("MaxCount", "1"),
        ("MetadataOptions.HttpTokens", "required"),
        ("SecurityGroupId.1", one.as_str()),
    ];
    moto.ec2("RunInstances", &machine)?;
    let id = moto.inventory()?["instances"][0].clone();
    workspace.variables(&with(&image, json!({ "aws": { "allowed_cidrs": ["192.0.2.0/24"] } })))?;
    workspace.import(VM, &format!("aws/us-west-2/{id}"))?.succeeds()?;
    let errors = workspace.apply_with(&[])?.fails()?;
    ensure!(errors.iter().any(|error| error.mentions("no security group that Sindri made")), "{errors:?}");

    for groups in [vec![&one], vec![&one, &two]] {
        workspace.variables(&with(&image, json!({ "aws": { "security_group_ids": groups } })))?;
        assert_eq!(workspace.plan()?.action(VM), "update");
        workspace.apply()?;
        workspace.converged()?;
        let told = moto.ec2("DescribeInstances", &[("InstanceId.1", &id)])?;
        ensure!(groups.iter().all(|group| told.contains(group.as_str())), "{groups:?}: {told}");
    }
    moto.ec2("ModifyInstanceAttribute", &[("InstanceId", id.as_str()), ("GroupId.1", two.as_str())])?;
    assert_eq!(workspace.plan()?.action(VM), "update");
    workspace.destroy()?;
    for group in [&one, &two] {
        moto.ec2("DeleteSecurityGroup", &[("GroupId", group.as_str())])?;
    }
    nothing_left(&host, &moto)
}
