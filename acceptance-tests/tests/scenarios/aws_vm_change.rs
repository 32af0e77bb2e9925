//! `sindri_vm` on AWS: what a change does to a machine that is there, and what it needs.

use std::fs;

use acceptance_tests::{Cli, Fault, Host, each_cli};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::aws_vm::{VM, count, nothing_left, scenario, with};

#[test]
fn changes_are_in_place_where_they_can_be() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let (moto, workspace, image) = scenario(&host, cli, "aws-vm-settings")?;
        workspace.variables(&with(&image, json!({})))?;
        workspace.apply()?;
        let id = workspace.text(VM, "id")?;
        let action = |more: Value| -> Result<String> {
            workspace.variables(&with(&image, more))?;
            Ok(workspace.plan()?.action(VM).to_owned())
        };
        for anew in [
            json!({ "aws": { "root_volume": { "size_gb": 30 } } }),
            json!({ "aws": { "spot": true } }),
            json!({ "aws": { "region": "eu-central-1" } }),
            json!({ "aws": { "security_group_ids": ["sg-1"] } }),
            json!({ "ssh": { "public_key": PUBLIC_KEY } }),
            json!({ "user_data": "#!/bin/sh", "user_data_replace_on_change": true }),
        ] {
            assert_eq!(action(anew.clone())?, "replace", "{anew}");
        }
        for in_place in [
            json!({ "user_data": "#!/bin/sh" }),
            json!({ "ssh": { "username": "admin", "port": 2222 }, "aws": { "allowed_cidrs": ["192.0.2.0/24"] } }),
            json!({ "ssh": { "host": "127.0.0.1", "port": 2022 } }),
            json!({ "aws": { "instance_type": "t3.large", "allowed_cidrs": ["192.0.2.0/24"], "imdsv2": "optional" } }),
        ] {
            assert_eq!(action(in_place.clone())?, "update", "{in_place}");
            workspace.apply()?;
            workspace.converged()?;
            let groups = moto.ec2("DescribeSecurityGroups", &[])?;
            let port = in_place["ssh"]["port"].as_u64() == Some(2222);
            assert_eq!(groups.contains("<fromPort>2222<"), port, "{groups}");
        }
        let groups = moto.ec2("DescribeSecurityGroups", &[])?;
        ensure!(groups.contains("<fromPort>22<") && groups.contains("192.0.2.0/24"), "{groups}");
        let vm = workspace.resource(VM)?;
        ensure!(vm["ssh_host"] != json!("127.0.0.1") && !vm["ssh_host"].is_null(), "{vm}");
        assert_eq!((&vm["id"], &vm["aws"]["instance_type"]), (&json!(id), &json!("t3.large")));
        let told = moto.ec2("DescribeInstances", &[("InstanceId.1", &id)])?;
        ensure!(told.contains("<instanceType>t3.large<") && told.contains("<name>running<"), "{told}");

        // What others change of it is noticed, and changed back.
        let group = moto.inventory()?["security_groups"][0].clone();
        let open = [("GroupId", group.as_str()), ("IpProtocol", "tcp"), ("FromPort", "22"), ("ToPort", "22")];
        moto.ec2("AuthorizeSecurityGroupIngress", &[&open[..], &[("CidrIp", "198.51.100.7/32")]].concat())?;
        let metadata = [("InstanceId", id.as_str()), ("HttpTokens", "required")];
        moto.ec2("ModifyInstanceMetadataOptions", &metadata)?;
        let plan = workspace.plan()?;
        let aws = &plan.change(VM).context("drift is not noticed")?.before["aws"];
        assert_eq!(aws["allowed_cidrs"], json!(["192.0.2.0/24", "198.51.100.7/32"]), "{plan}");
        assert_eq!((&aws["imdsv2"], plan.action(VM)), (&json!("required"), "update"), "{plan}");
        workspace.apply()?;
        workspace.converged()?;
        let groups = moto.ec2("DescribeSecurityGroups", &[])?;
        ensure!(!groups.contains("198.51.100.7/32"), "{groups}");

        assert_eq!(
            action(json!({ "aws": { "region": "us-west-2" } }))?,
            "update",
            "the same region, said here"
        );
        workspace.variables(&with(&image, json!({ "aws": { "spot": true } })))?;
        workspace.apply()?;
        workspace.converged()?;
        ensure!(workspace.text(VM, "id")? != id && count(&moto, "instances")? == 1, "not made anew");
        let larger = json!({ "aws": { "spot": true, "instance_type": "t3.large" } });
        assert_eq!(action(larger)?, "replace", "a spot machine cannot be stopped");
        workspace.destroy()?;
        nothing_left(&host, &moto)
    })
}

const PUBLIC_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBW6/cPbCjY6KkJkP23ZJqQ0eZ3RhacaR9NoDI4jEQl1 ann";

/// As on this computer: `vm.rs`.
#[test]
fn where_a_private_key_lies_is_the_users_own_affair() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace, image) = scenario(&host, Cli::Tofu, "aws-vm-settings")?;
    let key = |path: &Value| json!({ "ssh": { "public_key": PUBLIC_KEY, "private_key_path": path } });
    workspace.variables(&with(&image, key(&json!("/one"))))?;
    workspace.apply()?;
    workspace.converged()?;
    let id = workspace.text(VM, "id")?;
    for path in [json!("/two"), json!(null)] {
        workspace.variables(&with(&image, key(&path)))?;
        assert_eq!(workspace.plan()?.action(VM), "update", "{path}");
        workspace.apply()?;
        workspace.converged()?;
        let vm = workspace.resource(VM)?;
        assert_eq!((&vm["id"], &vm["ssh_private_key_path"]), (&json!(id), &path));
        let command = vm["ssh_command"].as_str().context("no command")?;
        assert_eq!(command.contains("/two"), path == json!("/two"), "{command}");
    }
    workspace.destroy()?;
    nothing_left(&host, &moto)
}

#[test]
fn a_machine_that_moved_meanwhile_is_changed_all_the_same() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace, image) = scenario(&host, Cli::Tofu, "aws-vm-settings")?;
    workspace.variables(&with(&image, json!({})))?;
    workspace.apply()?;
    let id = workspace.text(VM, "id")?;
    let before = workspace.text(VM, "public_ip")?;
    moto.ec2("StopInstances", &[("InstanceId.1", &id)])?;
    moto.ec2("StartInstances", &[("InstanceId.1", &id)])?;
    workspace.variables(&with(&image, json!({ "tags": { "role": "it" } })))?;
    let applied = workspace.apply_with(&["-refresh=false"])?.succeeds()?;
    ensure!(
        applied.stdout.contains("is reached elsewhere now"),
        "nobody is told of the new address: {applied}"
    );
    workspace.converged()?;
    workspace.run(&["apply", "-json", "-auto-approve", "-refresh-only"])?.succeeds()?;
    ensure!(workspace.text(VM, "public_ip")? != before, "the rig gave the same address again");
    ensure!(moto.ec2("DescribeInstances", &[("InstanceId.1", &id)])?.contains("<key>role</key>"));
    workspace.destroy()?;
    nothing_left(&host, &moto)
}

#[test]
fn what_a_machine_does_not_have_is_not_known_after_apply() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace, image) = scenario(&host, Cli::Tofu, "aws-vm-settings")?;
    let aws = json!({ "associate_public_address": false });
    workspace.variables(&with(&image, json!({ "aws": aws })))?;
    workspace.apply()?;
    let vm = workspace.resource(VM)?;
    ensure!(vm["public_ip"].is_null() && vm["ssh_host"] == vm["private_ip"], "{vm}");
    workspace.variables(&with(&image, json!({ "aws": aws, "tags": { "role": "it" } })))?;
    let plan = workspace.plan()?;
    let unknown = &plan.change(VM).context("no change")?.after_unknown;
    for name in ["public_ip", "console_log_path", "store_id", "ssh_command"] {
        ensure!(unknown[name].is_null(), "{name}: {plan}");
    }
    workspace.variables(&with(&image, json!({ "aws": aws, "power_state": "stopped" })))?;
    let plan = workspace.plan()?;
    let unknown = &plan.change(VM).context("no change")?.after_unknown;
    ensure!(unknown["public_ip"] == json!(true) && unknown["console_log_path"].is_null(), "{plan}");
    workspace.apply()?;
    workspace.converged()?;
    workspace.destroy()?;
    nothing_left(&host, &moto)
}

#[test]
fn a_key_that_is_elsewhere_is_missed_before_the_machine_is_stopped() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace, image) = scenario(&host, Cli::Tofu, "aws-vm-settings")?;
    let aws = |size: &str| json!({ "instance_type": size, "allowed_cidrs": ["203.0.113.7/32"] });
    workspace.variables(&with(&image, json!({ "aws": aws("t3.micro") })))?;
    workspace.apply()?;
    let key = workspace.text(VM, "ssh_private_key_path")?;
    fs::rename(&key, format!("{key}.elsewhere"))?;
    let more = json!({ "aws": aws("t3.small"), "wait_for": "cloud-init", "tags": { "role": "it" } });
    workspace.variables(&with(&image, more))?;
    let errors = workspace.apply_with(&[])?.fails()?;
    ensure!(errors.iter().any(|error| error.mentions(&key) && error.mentions("wait_for")), "{errors:?}");
    let requests = moto.requests()?;
    for action in ["StopInstances", "ModifyInstanceAttribute"] {
        ensure!(!requests.contains_key(action), "{action}, and then the key was missed");
    }
    // Nobody logs in to a machine that goes on.
    let more = json!({ "aws": aws("t3.micro"), "wait_for": "cloud-init", "tags": { "role": "it" } });
    workspace.variables(&with(&image, more))?;
    workspace.apply()?;
    workspace.destroy()?;
    nothing_left(&host, &moto)
}

/// What only turns out while it is applied may need a new machine: the plan says so, and the host does not take it back.
#[test]
fn what_may_turn_out_to_need_a_new_machine_is_planned_as_one() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let (moto, workspace, image) = scenario(&host, cli, "aws-vm-settings")?;
        let write = |turn: &str, ssh: &str, aws: &str| {
            let text = r#"terraform {
  required_providers {
    sindri = { source = "sindri/sindri" }
  }
}
resource "terraform_data" "turn" {
  triggers_replace = "TURN"
}
resource "sindri_vm" "it" {
  count    = 1
  name     = "it"
  image_id = "IMAGE"
  wait_for = "none"
  ssh      = terraform_data.turn.id == "" ? null : SSH
  aws      = AWS
}
"#;
            let text = text.replace("TURN", turn).replace("IMAGE", &image);
            workspace.write("main.tf", &text.replace("SSH", ssh).replace("AWS", aws))
        };
        let (before, key) = ("{ port = 22 }", format!("{{ public_key = {PUBLIC_KEY:?} }}"));
        let later =
            |size: &str| format!("terraform_data.turn.id == \"\" ? null : {{ instance_type = {size:?} }}");
        let (small, large) = (later("t3.micro"), later("t3.small"));
        write("1", before, &small)?;
        workspace.apply()?;
        for (turn, ssh, aws) in [("2", key.as_str(), "{ instance_type = \"t3.micro\" }"), ("3", &key, &large)]
        {
            write(turn, ssh, aws)?;
            assert_eq!(workspace.plan()?.action(VM), "replace", "{ssh} {aws}");
            workspace.apply()?;
            workspace.converged()?;
        }
        workspace.destroy()?;
        nothing_left(&host, &moto)
    })
}

#[test]
fn a_refused_size_leaves_the_machine_as_it_was() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace, image) = scenario(&host, Cli::Tofu, "aws-vm-settings")?;
    workspace.variables(&with(&image, json!({})))?;
    workspace.apply()?;
    workspace.variables(&with(&image, json!({ "aws": { "instance_type": "x2gd.metal" } })))?;
    let refused = Fault::Error {
        status: 400,
        code: "InvalidParameterValue",
        message: "The architecture 'arm64' of the specified instance type does not match the instance's",
    };
    moto.fault("ModifyInstanceAttribute", 1, refused)?;
    let errors = workspace.apply_with(&[])?.fails()?;
    ensure!(errors.iter().any(|error| error.mentions("does not match")), "{errors:?}");
    assert_eq!(moto.requests()?["StartInstances"], 1);
    workspace.variables(&with(&image, json!({})))?;
    workspace.apply()?;
    assert_eq!(workspace.text(VM, "status")?, "running");
    workspace.converged()?;

    // Nor is a start that EC2 takes back waited for.
    workspace.variables(&with(&image, json!({ "power_state": "stopped" })))?;
    workspace.apply()?;
    moto.starts_fail()?;
    workspace.variables(&with(&image, json!({})))?;
    let errors = workspace.apply_with(&[])?.fails()?;
    ensure!(errors.iter().any(|error| error.mentions("AWS does not keep instance i-")), "{errors:?}");
    workspace.destroy()?;
    nothing_left(&host, &moto)
}
