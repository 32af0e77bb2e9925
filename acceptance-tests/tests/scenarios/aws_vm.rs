//! `sindri_vm` on AWS: its whole life, drift, mistakes. Against the rig's EC2.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use acceptance_tests::{Cli, Fault, Host, Moto, Workspace, each_cli, merged};
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
    merged(json!({ "image_id": image }), more)
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
