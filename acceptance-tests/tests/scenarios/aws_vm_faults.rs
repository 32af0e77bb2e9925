//! `sindri_vm` on AWS: launches that fail, and an EC2 that is slow, busy or forgetful.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;

use acceptance_tests::{Cli, Fault, Host, each_cli};
use anyhow::{Result, ensure};
use serde_json::json;

use crate::aws_vm::{VM, count, nothing_left, scenario, with};

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
