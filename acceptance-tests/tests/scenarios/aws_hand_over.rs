//! A second Ctrl-C amid a build on AWS: the host does not wait for Packer any longer, and the build's supervisor cleans up
//! without anybody's doing (docs/adr/0013). Packer is a stand-in here, which takes its time to end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use acceptance_tests::account::PATIENCE;
use acceptance_tests::{Host, Moto, Running, Workspace, each_cli, within};
use anyhow::{Context, Result, ensure};

/// It tells of each step by a file in FOLDER, and ends when there is the last one.
const PACKER: &str = "#!/bin/sh
case $1 in
version) echo Packer v1.6.6 ;;
build)
    trap 'touch FOLDER/asked' TERM
    touch FOLDER/begun
    until test -e FOLDER/released; do sleep 0.1; done
    exit 1
    ;;
esac
";

/// Until Packer is at a step, while the apply goes on.
fn until(running: &mut Running, file: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !file.exists() {
        let waits = Instant::now() < deadline && !running.has_ended()?;
        ensure!(waits, "no {}", file.display());
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// What Packer would have launched: an instance with the tags of the build that goes on.
fn launched(host: &Host, moto: &Moto, source: &str) -> Result<()> {
    let entry = fs::read_dir(host.data_dir().join("journal"))?.flatten().map(|entry| entry.path());
    let build = entry.filter(|path| path.extension().is_some_and(|it| it == "json")).last();
    let build = build.context("the journal is empty")?.with_extension("");
    let build = build.file_name().and_then(|name| name.to_str()).context("a name")?.to_owned();
    let launch = [
        ("ImageId", source),
        ("MinCount", "1"),
        ("MaxCount", "1"),
        ("TagSpecification.1.ResourceType", "instance"),
        ("TagSpecification.1.Tag.1.Key", "sindri_build"),
        ("TagSpecification.1.Tag.1.Value", &build),
    ];
    moto.ec2("RunInstances", &launch).map(drop)
}

fn scenario(workspace: &Workspace, packer: &Path) -> Result<()> {
    let folder = packer.parent().context("a folder")?;
    fs::write(packer, PACKER.replace("FOLDER", &folder.display().to_string()))?;
    fs::set_permissions(packer, fs::Permissions::from_mode(0o755))?;
    let provider = "  default_tags = var.default_tags\n";
    workspace.edit(
        "main.tf",
        provider,
        &format!("{provider}  packer       = {{ binary = {packer:?} }}\n"),
    )?;
    let aws = r#"{
    encrypt_boot  = false
    source_filter = { name = "a-source", owners = ["self"] }
    allowed_cidrs = ["203.0.113.7/32"]
  }"#;
    workspace.edit("main.tf", "= var.aws\n", &format!("= {aws}\n"))
}

#[test]
fn a_second_interrupt_hands_over_to_the_supervisor() -> Result<()> {
    each_cli(|cli| {
        let (host, moto) = (Host::new()?, Moto::start()?);
        let mut workspace = host.workspace(cli, "aws-image-settings")?;
        moto.serve(&mut workspace);
        let source = moto.image("a-source")?;
        let before = moto.inventory()?;
        scenario(&workspace, &host.path().join("packer"))?;

        let mut running = workspace.start_apply()?;
        until(&mut running, &host.path().join("begun"))?;
        launched(&host, &moto, &source)?;
        running.interrupt()?;
        until(&mut running, &host.path().join("asked"))?;
        ensure!(!running.has_ended()?, "the host did not wait for Packer");
        let provider = running.provider_pid().context("no provider")?.as_raw_nonzero();
        running.interrupt()?;
        ensure!(!running.wait(PATIENCE)?.success, "an interrupted apply passed for a success");

        // Packer still goes on, and nobody but the supervisor is there.
        within(Duration::from_secs(10), || {
            let command = fs::read(format!("/proc/{provider}/cmdline")).unwrap_or_default();
            ensure!(command.is_empty(), "the provider goes on");
            Ok(())
        })?;
        ensure!(!moto.inventory()?["key_pairs"].is_empty(), "it was removed while Packer may use it");
        fs::write(host.path().join("released"), "")?;
        within(PATIENCE, || {
            let now = moto.inventory()?;
            ensure!(now == before, "in EC2 is {now:?}, and was {before:?}");
            host.inventory()?.ensure_empty()
        })
    })
}
