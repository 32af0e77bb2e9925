//! `sindri_vm` on AWS: its whole life, power, drift, import, faults. Against the rig's EC2.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use acceptance_tests::{Cli, Fault, Host, Moto, Workspace, each_cli};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

pub(crate) const VM: &str = "sindri_vm.it[0]";

/// An EC2 with one image, and a workspace that uses it.
pub(crate) fn scenario(host: &Host, cli: Cli, name: &str) -> Result<(Moto, Workspace, String)> {
    let moto = Moto::start()?;
    let image = moto.image("base")?;
    let mut workspace = host.workspace(cli, name)?;
    moto.serve(&mut workspace);
    Ok((moto, workspace, image))
}

pub(crate) fn with(image: &str, more: Value) -> Value {
    let mut variables = json!({ "image_id": image });
    if let (Some(all), Value::Object(more)) = (variables.as_object_mut(), more) {
        all.extend(more);
    }
    variables
}

/// A machine's SSH server for as long as the process lives: it says who it is and no more.
fn banner() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for mut stream in listener.incoming().flatten() {
            // A client that went away is none of ours.
            let _ = stream.write_all(b"SSH-2.0-rig\r\n");
            open.push(stream);
        }
    });
    Ok(port)
}

pub(crate) fn count(moto: &Moto, kind: &str) -> Result<usize> {
    Ok(moto.inventory()?[kind].len())
}

pub(crate) fn nothing_left(host: &Host, moto: &Moto) -> Result<()> {
    moto.ensure_no_machines()?;
    host.inventory()?.ensure_empty()
}

#[test]
fn the_example_lives_its_whole_life() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let (moto, workspace, image) = scenario(&host, cli, "aws-vm")?;
        workspace.edit(
            "main.tf",
            "ssh         = { username = \"ubuntu\" }",
            &format!("ssh         = {{ username = \"ubuntu\", host = \"127.0.0.1\", port = {} }}", banner()?),
        )?;
        let variables = with(&image, json!({ "allowed_cidrs": ["203.0.113.7/32"] }));
        workspace.variables(&variables)?;
        let plan = workspace.plan()?;
        let planned = plan.change("sindri_vm.web").context("nothing planned")?;
        assert_eq!((&planned.after["cloud"], &planned.after["region"]), (&json!("aws"), &json!("us-west-2")));
        workspace.apply()?;
        workspace.converged()?;

        let vm = workspace.resource("sindri_vm.web")?;
        let id = vm["id"].as_str().context("no id")?.to_owned();
        ensure!(id.starts_with("i-") && vm["status"] == "running", "{vm}");
        ensure!(vm["console_log_path"].is_null(), "there is no such file: {vm}");
        ensure!(vm["public_ip"].is_string() && vm["private_ip"].is_string(), "{vm}");
        let key = vm["ssh_private_key_path"].as_str().context("no key")?;
        assert_eq!(fs::metadata(key)?.permissions().mode() & 0o777, 0o600);
        ensure!(vm["ssh_command"].as_str().is_some_and(|line| line.ends_with("ubuntu@127.0.0.1")), "{vm}");
        let told = moto.ec2("DescribeInstances", &[("InstanceId.1", &id)])?;
        for part in ["<httpTokens>required", "<key>role</key>", "<key>project</key>", "<key>sindri_vm</key>"]
        {
            ensure!(told.contains(part), "no {part} in {told}");
        }
        let volumes = moto.ec2("DescribeVolumes", &[])?;
        for part in ["<size>20<", "<encrypted>true<", "<volumeType>gp3<", "<key>role</key>"] {
            ensure!(volumes.contains(part), "no {part} in {volumes}");
        }
        let groups = moto.ec2("DescribeSecurityGroups", &[])?;
        ensure!(groups.contains("203.0.113.7/32"), "{groups}");

        let stopped = with(&image, json!({ "allowed_cidrs": ["198.51.100.0/24"], "power_state": "stopped" }));
        workspace.variables(&stopped)?;
        assert_eq!(workspace.plan()?.action("sindri_vm.web"), "update");
        workspace.apply()?;
        workspace.converged()?;
        let vm = workspace.resource("sindri_vm.web")?;
        assert_eq!((&vm["status"], &vm["id"]), (&json!("stopped"), &json!(id)));
        let groups = moto.ec2("DescribeSecurityGroups", &[])?;
        ensure!(groups.contains("198.51.100.0/24") && !groups.contains("203.0.113.7/32"), "{groups}");
        workspace.variables(&variables)?;
        workspace.apply()?;
        workspace.converged()?;
        assert_eq!(workspace.text("sindri_vm.web", "status")?, "running");

        workspace.destroy()?;
        nothing_left(&host, &moto)
    })
}

#[test]
fn drift_is_noticed_and_mended() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let (moto, workspace, image) = scenario(&host, cli, "aws-vm-settings")?;
        let tags = json!({ "tags": { "role": "it", "gone": "soon" }, "default_tags": { "team": "a" } });
        workspace.variables(&with(&image, tags))?;
        workspace.apply()?;
        workspace.converged()?;
        let id = workspace.text(VM, "id")?;

        // What others add is theirs; what they change is noticed.
        let tag = |key, value| {
            moto.ec2(
                "CreateTags",
                &[("ResourceId.1", id.as_str()), ("Tag.1.Key", key), ("Tag.1.Value", value)],
            )
        };
        tag("cost-center", "42")?;
        workspace.converged()?;
        tag("role", "other")?;
        assert_eq!(workspace.plan()?.action(VM), "update");
        workspace
            .variables(&with(&image, json!({ "tags": { "role": "it" }, "default_tags": { "team": "a" } })))?;
        workspace.apply()?;
        workspace.converged()?;
        let told = moto.ec2("DescribeInstances", &[("InstanceId.1", &id)])?;
        ensure!(
            told.contains("<value>it<") && told.contains("cost-center") && !told.contains("gone"),
            "{told}"
        );

        moto.ec2("StopInstances", &[("InstanceId.1", &id)])?;
        let plan = workspace.plan()?;
        assert_eq!(plan.action(VM), "update", "{plan}");
        workspace.apply()?;
        workspace.converged()?;
        assert_eq!(workspace.text(VM, "id")?, id, "a stopped machine is started, not made anew");

        moto.ec2("TerminateInstances", &[("InstanceId.1", &id)])?;
        assert_eq!(workspace.plan()?.action(VM), "replace");
        workspace.apply()?;
        let of_one = (count(&moto, "key_pairs")?, count(&moto, "security_groups")?);
        assert_eq!(of_one, (1, 1), "what the lost machine had stays: {:?}", moto.inventory()?);
        let again = workspace.text(VM, "id")?;
        moto.ec2("TerminateInstances", &[("InstanceId.1", &again)])?;
        // Gone behind the plan's back.
        workspace.run(&["destroy", "-json", "-auto-approve", "-refresh=false"])?.succeeds()?;
        nothing_left(&host, &moto)
    })
}

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
fn an_empty_list_of_groups_is_none() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace, image) = scenario(&host, Cli::Tofu, "aws-vm-settings")?;
    let cidrs = ["192.0.2.0/24", "192.0.2.0/24"];
    let groups = |groups: Value| {
        with(&image, json!({ "aws": { "allowed_cidrs": cidrs, "security_group_ids": groups } }))
    };
    workspace.variables(&groups(json!([])))?;
    workspace.apply()?;
    workspace.converged()?;
    let id = workspace.text(VM, "id")?;
    workspace.variables(&groups(Value::Null))?;
    ensure!(workspace.plan()?.action(VM) != "replace", "from no groups to no groups");
    workspace.apply()?;
    workspace.converged()?;
    assert_eq!(workspace.text(VM, "id")?, id);
    let told = moto.ec2("DescribeSecurityGroups", &[])?;
    assert_eq!(told.matches("192.0.2.0/24").count(), 1, "{told}");
    workspace.destroy()?;
    nothing_left(&host, &moto)
}

#[test]
fn default_tags_that_are_not_the_users_are_refused() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace, image) = scenario(&host, Cli::Tofu, "aws-vm-settings")?;
    workspace.variables(&with(&image, json!({ "default_tags": { "team": "a" } })))?;
    workspace.apply()?;
    let bad = json!({ "default_tags": { "sindri_vm": "x" } });
    workspace.variables(&with(&image, bad))?;
    let errors = workspace.plan_fails()?;
    ensure!(
        errors.iter().any(|error| error.mentions("default_tags") && error.mentions("sindri_vm")),
        "{errors:?}"
    );
    workspace.variables(&with(&image, json!({})))?;
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

#[test]
fn throttling_and_lost_replies_are_ridden_out() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let (moto, workspace, image) = scenario(&host, cli, "aws-vm-settings")?;
        workspace.variables(&with(&image, json!({})))?;
        // More often than the SDK tries on its own.
        moto.fault("RunInstances", 8, Fault::THROTTLED)?;
        // The reply is lost twice, then throttled again: one instance all the same.
        moto.fault("RunInstances", 2, Fault::Drop)?;
        moto.fault("ImportKeyPair", 1, Fault::Drop)?;
        moto.fault("CreateSecurityGroup", 1, Fault::Drop)?;
        moto.fault("AuthorizeSecurityGroupIngress", 1, Fault::Drop)?;
        workspace.apply()?;
        let requests = moto.requests()?;
        assert_eq!(requests["RunInstances"], 11, "{requests:?}");
        assert_eq!(count(&moto, "instances")?, 1);
        assert_eq!((count(&moto, "key_pairs")?, count(&moto, "security_groups")?), (1, 1));
        workspace.converged()?;
        moto.fault("DescribeInstances", 3, Fault::THROTTLED)?;
        moto.fault("TerminateInstances", 1, Fault::Drop)?;
        moto.fault("DeleteSecurityGroup", 1, Fault::Drop)?;
        workspace.destroy()?;
        nothing_left(&host, &moto)
    })
}

#[test]
fn a_launch_that_fails_halfway_is_removed() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace, image) = scenario(&host, Cli::Tofu, "aws-vm-settings")?;
    workspace.variables(&with(&image, json!({})))?;
    let denied = Fault::Error {
        status: 403,
        code: "UnauthorizedOperation",
        message: "You are not authorized to perform this operation. User: arn:aws:iam::123456789012:user/ci is not authorized to perform: ec2:DescribeInstances on resource: x. Encoded authorization failure message: 3ncod3d",
    };
    // The instance runs, and what follows fails: it is in state, and the next apply replaces it. The first look is for what
    // others left.
    moto.fault_after("DescribeInstances", 1, 1, denied)?;
    let errors = workspace.apply_with(&[])?.fails()?;
    ensure!(errors.iter().any(|error| error.mentions("ec2:DescribeInstances")), "{errors:?}");
    ensure!(!errors.iter().any(|error| error.mentions("3ncod3d")), "{errors:?}");
    assert_eq!(count(&moto, "instances")?, 1);
    workspace.apply()?;
    assert_eq!((count(&moto, "instances")?, count(&moto, "key_pairs")?), (1, 1));
    workspace.converged()?;
    workspace.destroy()?;
    nothing_left(&host, &moto)?;

    // Not even the instance: key pair and group are found by the launch that is in state.
    moto.fault(
        "RunInstances",
        1,
        // As EC2 sends it; and it is not asked again.
        Fault::Error { status: 500, code: "InsufficientInstanceCapacity", message: "none left" },
    )?;
    moto.forget_requests()?;
    let errors = workspace.apply_with(&[])?.fails()?;
    ensure!(
        errors.iter().any(|error| error.mentions("none left") && error.mentions("request id")),
        "{errors:?}"
    );
    assert_eq!(moto.requests()?["RunInstances"], 1);
    workspace.destroy()?;
    nothing_left(&host, &moto)
}

#[test]
fn what_has_not_got_around_in_ec2_is_waited_for() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace, image) = scenario(&host, Cli::Tofu, "aws-vm-settings")?;
    workspace.variables(&with(&image, json!({})))?;
    let unknown = |code| Fault::Error { status: 400, code, message: "does not exist" };
    moto.fault("AuthorizeSecurityGroupIngress", 1, unknown("InvalidGroup.NotFound"))?;
    moto.fault("RunInstances", 1, unknown("InvalidAMIID.NotFound"))?;
    moto.fault("RunInstances", 1, unknown("InvalidKeyPair.NotFound"))?;
    moto.fault("RunInstances", 1, unknown("InvalidGroup.NotFound"))?;
    let profile =
        "Value (ci) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name";
    let profile = Fault::Error { status: 400, code: "InvalidParameterValue", message: profile };
    moto.fault("RunInstances", 1, profile)?;
    // A machine that runs is not given up because a tag is missing on its key pair.
    let denied = Fault::Error { status: 403, code: "UnauthorizedOperation", message: "no" };
    moto.fault("CreateTags", 1, denied)?;
    // When all is up, one place has not heard of the instance yet.
    moto.fault("DeleteTags", 1, unknown("InvalidInstanceID.NotFound"))?;
    workspace.apply()?;
    workspace.converged()?;
    assert_eq!((count(&moto, "instances")?, moto.requests()?["RunInstances"]), (1, 5));
    let told = moto.ec2("DescribeInstances", &[])?;
    ensure!(!told.contains("sindri_deadline"), "{told}");

    // The rig has no such profile either: it is asked for until it is refused for good.
    workspace.variables(&with(&image, json!({ "aws": { "iam_instance_profile": "ci" } })))?;
    moto.fault("AssociateIamInstanceProfile", 2, profile)?;
    workspace.apply_with(&[])?.fails()?;
    assert_eq!(moto.requests()?["AssociateIamInstanceProfile"], 3);
    workspace.destroy()?;
    nothing_left(&host, &moto)
}

#[test]
fn a_machine_that_is_not_seen_is_ended_all_the_same() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace, image) = scenario(&host, Cli::Tofu, "aws-vm-settings")?;
    workspace.variables(&with(&image, json!({})))?;
    workspace.apply()?;
    // A place in EC2 that has not heard of it.
    moto.fault("DescribeInstances", 1, Fault::Unseen)?;
    workspace.run(&["destroy", "-json", "-auto-approve", "-refresh=false"])?.succeeds()?;
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

#[test]
fn a_key_that_cannot_log_in_is_told_before_anything_is_made() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace, image) = scenario(&host, Cli::Tofu, "aws-vm-settings")?;
    let key = host.path().join("rsa");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f"])
        .arg(&key)
        .status()?;
    ensure!(made.success(), "ssh-keygen: {made}");
    let ssh =
        json!({ "public_key": fs::read_to_string(key.with_extension("pub"))?, "private_key_path": key });
    let more =
        json!({ "ssh": ssh, "wait_for": "cloud-init", "aws": { "allowed_cidrs": ["203.0.113.7/32"] } });
    workspace.variables(&with(&image, more))?;
    let errors = workspace.apply_with(&[])?.fails()?;
    ensure!(
        errors.iter().any(|error| error.mentions("RSA") && error.mentions("ssh.private_key_path")),
        "{errors:?}"
    );
    ensure!(!moto.requests()?.contains_key("ImportKeyPair"), "something was made");
    workspace.destroy()?;
    nothing_left(&host, &moto)
}

#[test]
fn a_machine_that_does_not_answer_shows_its_console() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace, image) = scenario(&host, Cli::Tofu, "aws-vm-settings")?;
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let ssh = json!({ "host": "127.0.0.1", "port": silent.local_addr()?.port() });
    workspace.variables(&with(&image, json!({ "wait_for": "ssh", "ssh": ssh, "create_timeout": "15s" })))?;
    let errors = workspace.apply_with(&[])?.fails()?;
    ensure!(
        errors.iter().any(|error| error.mentions("console ends with") && error.mentions("login:")),
        "{errors:?}"
    );
    ensure!(errors.iter().any(|error| error.mentions("timeouts.create")), "{errors:?}");
    // The machine stays, with what tells why.
    assert_eq!(count(&moto, "instances")?, 1);
    let console = fs::read_to_string(workspace.text(VM, "console_log_path")?)?;
    ensure!(console.contains("login:"), "{console}");
    fs::metadata(workspace.text(VM, "ssh_private_key_path")?)?;
    workspace.destroy()?;
    nothing_left(&host, &moto)
}

#[test]
fn mistakes_are_named() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let (moto, mut workspace, image) = scenario(&host, cli, "aws-vm-settings")?;
        let fails = |workspace: &Workspace, variables: Value, words: &[&str]| -> Result<()> {
            workspace.variables(&variables)?;
            let errors = workspace.apply_with(&[])?.fails()?;
            let told =
                |word: &&str| errors.iter().any(|error| error.mentions(word) || error.code.contains(*word));
            ensure!(words.iter().all(told), "{words:?} not in {errors:?}");
            workspace.destroy()?;
            nothing_left(&host, &moto)
        };
        fails(
            &workspace,
            with(&image, json!({ "aws": { "instance_type": "t3.tiny" } })),
            &["t3.tiny", "aws"],
        )?;
        fails(
            &workspace,
            with("ami-0123456789abcdef0", json!({})),
            &["no image ami-0123456789abcdef0 in us-west-2"],
        )?;
        let elsewhere = json!({ "aws": { "region": "eu-central-1" } });
        fails(&workspace, with(&image, elsewhere), &["eu-central-1", "an AMI lives in one region"])?;
        fails(&workspace, with(&image, json!({ "aws": { "subnet_id": "subnet-1" } })), &["subnet-1"])?;
        fails(
            &workspace,
            with(&image, json!({ "aws": { "region": "us-west-2a" } })),
            &["us-west-2a", "no region"],
        )?;
        fails(&workspace, with(&image, json!({ "wait_for": "ssh" })), &["No way in", "allowed_cidrs"])?;
        // There are keys in the environment, and they are not asked for.
        let profile = json!({ "provider_aws": { "profile": "nobody" } });
        fails(&workspace, with(&image, profile), &["credentials"])?;
        let account = json!({ "provider_aws": { "allowed_account_ids": ["999999999999"] } });
        fails(&workspace, with(&image, account), &["of account 123456789012", "999999999999"])?;
        for (code, words) in [
            ("UnauthorizedOperation", ["ec2:RunInstances", "policy"]),
            ("ExpiredToken", ["does not accept the credentials", "log in again"]),
        ] {
            moto.fault("RunInstances", 1, Fault::Error { status: 403, code, message: "no" })?;
            fails(&workspace, with(&image, json!({})), &words)?;
        }
        // Somewhere else than EC2 is, or no network: that is no reason to wait for a minute.
        let nobody = format!("http://{}", TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?);
        workspace.env("AWS_ENDPOINT_URL", &nobody);
        workspace.variables(&with(&image, json!({})))?;
        let began = Instant::now();
        let errors = workspace.apply_with(&[])?.fails()?;
        let place = format!("{nobody} (region us-west-2)");
        ensure!(
            errors.iter().any(|error| error.mentions(&place) && error.mentions("AWS_ENDPOINT_URL")),
            "{errors:?}"
        );
        ensure!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        workspace.env("AWS_ENDPOINT_URL", moto.url());
        workspace
            .env("AWS_ACCESS_KEY_ID", "")
            .env("AWS_SECRET_ACCESS_KEY", "")
            .env("AWS_EC2_METADATA_DISABLED", "true");
        workspace.variables(&with(&image, json!({})))?;
        let errors = workspace.apply_with(&[])?.fails()?;
        ensure!(
            errors.iter().any(|error| error.mentions("no AWS credentials") && error.mentions("AWS_PROFILE")),
            "{errors:?}"
        );
        nothing_left(&host, &moto)
    })
}

#[test]
fn thirty_machines_are_read_with_few_requests() -> Result<()> {
    let host = Host::new()?;
    let (moto, workspace, image) = scenario(&host, Cli::Tofu, "aws-vm-settings")?;
    workspace.variables(&with(&image, json!({ "instances": 30 })))?;
    workspace.apply()?;
    moto.forget_requests()?;
    workspace.plan()?;
    let requests = moto.requests()?;
    let total: u64 = requests.values().sum();
    ensure!(total <= 10, "{requests:?}");
    workspace.destroy()?;
    nothing_left(&host, &moto)
}
