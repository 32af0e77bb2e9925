//! The EC2 emulator: its own tests by boto3, and the harness around it.

use std::process::Command;

use acceptance_tests::{Fault, Moto, built_tool, repository};
use anyhow::{Result, ensure};

#[test]
fn boto3_finds_the_emulator_faithful() -> Result<()> {
    let tests = Command::new(built_tool("moto")?)
        .args(["-m", "unittest"])
        .current_dir(repository().join("acceptance-tests/rig/moto"))
        .output()?;
    ensure!(tests.status.success(), "{}", String::from_utf8_lossy(&tests.stderr));
    Ok(())
}

#[test]
fn a_scenario_sees_and_disturbs_its_own_emulator_only() -> Result<()> {
    let (one, other) = (Moto::start()?, Moto::start()?);
    let image = one.image("mine")?;
    assert_eq!(one.inventory()?["images"], [image.as_str()]);
    assert!(other.inventory()?["images"].is_empty());

    let launch =
        [("ImageId", image.as_str()), ("InstanceType", "t3.micro"), ("MinCount", "1"), ("MaxCount", "1")];
    one.fault("RunInstances", 1, Fault::THROTTLED)?;
    let refused = one.ec2("RunInstances", &launch).expect_err("a throttled launch passed").to_string();
    ensure!(refused.contains("RequestLimitExceeded"), "{refused}");
    one.fault("RunInstances", 1, Fault::Drop)?;
    ensure!(one.ec2("RunInstances", &launch).is_err(), "a lost answer arrived");
    assert_eq!(one.inventory()?["instances"].len(), 1, "the effect is there");
    ensure!(one.ensure_no_machines().is_err(), "an instance passed for nothing");
    assert_eq!(one.requests()?["RunInstances"], 2);
    one.forget_requests()?;
    assert!(one.requests()?.is_empty());

    one.fault("RunInstances", 100, Fault::THROTTLED)?;
    one.heal()?;
    one.ec2("RunInstances", &launch)?;
    let there = one.ec2_in("eu-central-1", "DescribeInstances", &[])?;
    ensure!(!there.contains("i-"), "regions are apart: {there}");
    Ok(())
}
