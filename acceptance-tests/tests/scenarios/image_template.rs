//! Packer templates of the user's own, built by the distribution's Packer (1.6.6) and a newer one: what they make is found,
//! read and deleted, on this computer and on EC2.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use acceptance_tests::{Cli, Host, Moto, Running, Workspace, built_tool, each_cli, within};
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

const IMAGE: &str = "sindri_image.greeting";
const PACKER: &str = "/usr/bin/packer";
const TOKEN: &str = "canary-91d3c0aa";

fn log(host: &Host) -> String {
    fs::read_to_string(host.data_dir().join("logs/latest-greeting.log")).unwrap_or_default()
}

fn example(host: &Host, cli: Cli) -> Result<Workspace> {
    let workspace = host.workspace(cli, "packer-template")?;
    workspace.variables(&json!({ "packer": PACKER, "token": TOKEN }))?;
    Ok(workspace)
}

/// The example with another template.
fn with_template(host: &Host, template: &str) -> Result<Workspace> {
    let workspace = example(host, Cli::Tofu)?;
    workspace.write("it.pkr.hcl", template)?;
    let main = fs::read_to_string(workspace.path().join("main.tf"))?;
    let (before, rest) = main.split_once("    template = ").context("no template")?;
    let (_, after) = rest.split_once("variables_wo_version = 1\n").context("no version")?;
    workspace.write("main.tf", &format!("{before}    template = \"it.pkr.hcl\"\n{after}"))?;
    Ok(workspace)
}

#[test]
fn a_template_is_built_found_again_noticed_when_gone_and_deleted() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = example(&host, cli)?;
        assert_eq!(workspace.plan()?.action(IMAGE), "create");
        workspace.apply()?;
        workspace.converged()?;
        let file = workspace.path().join("template/out/greeting.txt");
        assert_eq!(fs::read_to_string(&file)?, "Hello, Brokkr and Eitri!\n");
        let artifacts = workspace.resource(IMAGE)?["packer_artifacts"].clone();
        let expected =
            json!([{ "builder_id": "packer.file", "id": "File", "files": [file], "managed": true }]);
        assert_eq!(artifacts, expected);
        let log = log(&host);
        for words in ["Handing over to Packer 1.6.6", "a token of 15 characters"] {
            ensure!(log.contains(words), "no {words:?} in {log}");
        }
        ensure!(!log.contains(TOKEN) && !workspace.state_contains(TOKEN)?, "the secret is told");
        assert_eq!(host.inventory()?.processes, Vec::<String>::new());

        // The same template elsewhere is the same image.
        let other = example(&host, cli)?;
        let plan = other.plan()?;
        let planned = plan.change(IMAGE).context("nothing planned")?;
        assert_eq!(planned.after["origin"], "cached", "{plan}");
        other.apply()?;
        other.converged()?;
        assert_eq!(other.text(IMAGE, "image_id")?, workspace.text(IMAGE, "image_id")?);
        ensure!(!other.path().join("template/out").exists(), "it was built again");
        other.destroy()?;
        ensure!(file.exists(), "another resource still holds it");

        fs::remove_file(&file)?;
        assert_eq!(workspace.plan()?.action(IMAGE), "create");
        workspace.apply()?;
        workspace.converged()?;

        // What the template names counts.
        let script = workspace.path().join("template/scripts/greet.sh");
        fs::write(&script, "#!/bin/sh\necho another script\n")?;
        assert_eq!(workspace.plan()?.action(IMAGE), "replace");
        workspace.apply()?;
        workspace.converged()?;
        ensure!(file.exists(), "the old image's deletion took the new one's file");
        workspace.apply_with(&[&format!("-replace={IMAGE}")])?.succeeds()?;
        assert_eq!(workspace.text(IMAGE, "origin")?, "built");
        workspace.destroy()?;
        ensure!(!file.exists(), "the file is still there");
        host.inventory()?.ensure_empty()
    })
}

#[test]
fn a_newer_packer_builds_the_same() -> Result<()> {
    let host = Host::new()?;
    let workspace = example(&host, Cli::Tofu)?;
    workspace.variables(&json!({ "packer": built_tool("packer")?, "token": TOKEN, "greeting": "Hail" }))?;
    workspace.edit("main.tf", "    variables_wo  ", "    parallel_builds = 1\n    force = true\n    debug = true\n    only = [\"file.greeting\"]\n    variables_wo  ")?;
    workspace.apply()?;
    workspace.converged()?;
    ensure!(log(&host).contains("Handing over to Packer 1.10.0"), "{}", log(&host));
    let file = workspace.path().join("template/out/greeting.txt");
    assert_eq!(fs::read_to_string(&file)?, "Hail, Brokkr and Eitri!\n");
    // How it is built is no part of what it is.
    workspace.edit("main.tf", "    debug = true\n", "")?;
    assert_eq!(workspace.plan()?.action(IMAGE), "update");
    workspace.destroy()?;
    host.inventory()?.ensure_empty()
}

/// Writes into a folder that it names, and that is not there before.
const INTO_A_FOLDER: &str = r#"
variable "sums" {
  default = "sums"
}
locals {
  out = "${path.root}/out"
}
source "file" "it" {
  content = "\\033[1m${join("", ["((", "[["])}\n"
  target  = "${local.out}/it.txt"
}
build {
  sources = ["source.file.it"]
  post-processors {
    post-processor "checksum" {
      checksum_types = ["sha256"]
      output         = "${var.sums}/{{.BuildName}}.{{.ChecksumType}}"
    }
  }
}
"#;

#[test]
fn a_folder_that_a_template_writes_into_does_not_replace_its_image() -> Result<()> {
    let host = Host::new()?;
    let workspace = with_template(&host, INTO_A_FOLDER)?;
    workspace.apply()?;
    for file in ["out/it.txt", "sums/it.sha256"] {
        ensure!(workspace.path().join(file).exists(), "no {file}: {}", log(&host));
    }
    workspace.converged()?;
    workspace.destroy()?;
    host.inventory()?.ensure_empty()
}

/// One build of two fails after the other has made something.
const HALF: &str = r#"
source "file" "good" {
  content = "x"
  target  = "good.txt"
}
source "file" "bad" {
  content = "x"
  target  = "/proc/none/x"
}
build {
  sources = ["source.file.good", "source.file.bad"]
}
"#;

const NOTHING: &str = r#"
source "null" "it" {
  communicator = "none"
}
build {
  sources = ["source.null.it"]
}
"#;

#[test]
fn what_fails_leaves_nothing_behind() -> Result<()> {
    for (template, words) in [
        (HALF, &["/proc/none", "is deleted", "good.txt"][..]),
        (NOTHING, &["without an artifact"]),
        ("build {\n  sources = [\"source.file.none\"]\n}\n", &["could not build the template"]),
    ] {
        let host = Host::new()?;
        let workspace = with_template(&host, template)?;
        let errors = workspace.apply_with(&[])?.fails()?;
        for word in words {
            ensure!(errors.iter().any(|error| error.mentions(word)), "no {word:?} in {errors:?}");
        }
        let logs = host.data_dir().join("logs").display().to_string();
        ensure!(errors.iter().any(|error| error.mentions(&logs)), "no log in {errors:?}");
        ensure!(!workspace.path().join("good.txt").exists(), "what was made is still there");
        host.inventory()?.ensure_empty()?;
    }
    Ok(())
}

/// Goes on as long as the file `hold` is there.
const HOLDING: &str = r#"
source "file" "it" {
  content = "x"
  target  = "it.txt"
}
build {
  sources = ["source.file.it"]
  provisioner "shell-local" {
    inline = ["echo goes on", "while test -e hold; do sleep 0.2; done"]
  }
}
"#;

fn amid_a_build(host: &Host) -> Result<(Workspace, Running)> {
    let workspace = with_template(host, HOLDING)?;
    workspace.write("hold", "")?;
    let mut running = workspace.start_apply()?;
    let deadline = Instant::now() + Duration::from_secs(120);
    while !log(host).contains("goes on") {
        let waits = Instant::now() < deadline && !running.has_ended()?;
        ensure!(waits, "the provisioner never ran: {}", log(host));
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok((workspace, running))
}

#[test]
fn an_interrupted_build_leaves_nothing() -> Result<()> {
    let host = Host::new()?;
    let (workspace, running) = amid_a_build(&host)?;
    running.interrupt()?;
    std::thread::sleep(Duration::from_millis(500));
    fs::remove_file(workspace.path().join("hold"))?;
    let outcome = running.wait(Duration::from_secs(60))?;
    ensure!(!outcome.success, "an interrupted apply passed for a success");
    within(Duration::from_secs(20), || host.inventory()?.ensure_empty())
}

#[test]
fn a_killed_providers_build_is_ended_and_the_next_apply_builds() -> Result<()> {
    let host = Host::new()?;
    let (workspace, running) = amid_a_build(&host)?;
    running.kill_provider()?;
    running.wait(Duration::from_secs(60))?.fails()?;
    fs::remove_file(workspace.path().join("hold"))?;
    // By the supervisor, and without anybody's doing.
    within(Duration::from_secs(60), || host.inventory()?.ensure_empty())?;
    let _ = fs::remove_file(workspace.path().join("it.txt"));
    workspace.apply()?;
    workspace.converged()?;
    workspace.destroy()?;
    host.inventory()?.ensure_empty()
}

/// The computer is switched off: all that runs of the build ends, and nobody is there to clean up.
#[test]
fn what_a_lost_build_leaves_is_swept() -> Result<()> {
    let host = Host::new()?;
    let (workspace, running) = amid_a_build(&host)?;
    let ours: Vec<Pid> = host.inventory()?.processes.iter().filter_map(|process| pid(process)).collect();
    let stopped = ours.iter().all(|process| kill_process(*process, Signal::STOP).is_ok());
    ensure!(stopped && !ours.is_empty(), "nothing to be stopped: {ours:?}");
    running.kill_provider()?;
    for process in ours {
        let _ = kill_process(process, Signal::KILL);
    }
    running.wait(Duration::from_secs(60))?.fails()?;
    fs::remove_file(workspace.path().join("hold"))?;
    let files = host.inventory()?.files;
    ensure!(files.iter().any(|file| file.starts_with("journal")), "no entry in {files:?}");
    for (arguments, is_left) in [(&["sweep", "--dry-run"][..], true), (&["sweep"], false)] {
        let swept = workspace.provider(arguments)?;
        ensure!(swept.status.success(), "{swept:?}");
        assert_eq!(host.inventory()?.is_empty(), !is_left, "{}", host.inventory()?);
    }
    Ok(())
}

fn pid(process: &str) -> Option<Pid> {
    Pid::from_raw(process.split(' ').next()?.parse().ok()?)
}

#[test]
fn mistakes_are_told_at_plan() -> Result<()> {
    let host = Host::new()?;
    let template = "    template = \"${path.module}/template\"";
    for (old, new, words) in [
        (template, "    template = \"none.pkr.hcl\"", "none.pkr.hcl cannot be read"),
        (template, "    template = \"main.tf\"", "must end in .pkr.hcl"),
        (template, "    template = \"bad.pkr.hcl\"", "bad.pkr.hcl, line 2"),
        ("greeting = var.greeting", "greting = var.greeting", "no variable \"greting\""),
        ("jsonencode([\"Brokkr\", \"Eitri\"])", "\"Brokkr\"", "jsonencode"),
        ("    variables_wo_v", "    variable_files = [\"template\"]\n    variables_wo_v", "is a folder"),
        ("    variables_wo_v", "    on_error = \"ask\"\n    variables_wo_v", "nobody is there"),
        ("    variables_wo_v", "    only = [\"a,b\"]\n    variables_wo_v", "without commas"),
        ("  packer = {\n    template", "  provision = []\n  packer = {\n    template", "has steps"),
        ("  packer = {\n    template", "  on_error = \"keep\"\n  packer = {\n    template", "abort"),
        (
            "  packer = {\n    template",
            "  tags = { a = \"b\" }\n  packer = {\n    template",
            "the template says so",
        ),
        (
            "  packer = {\n    template",
            "  qemu = { base = { bootstrap = { suite = \"x\" } } }\n  packer = {\n    template",
            "exactly one",
        ),
    ] {
        let workspace = example(&host, Cli::Tofu)?;
        workspace.write("bad.pkr.hcl", "build {\n  x = \n}\n")?;
        workspace.edit("main.tf", old, new)?;
        let errors = workspace.plan_fails()?;
        ensure!(errors.iter().any(|error| error.mentions(words)), "no {words:?} in {errors:?}");
    }
    host.inventory()?.ensure_empty()
}

/// An instance that nobody logs in to, and an AMI of it in two regions.
const EC2: &str = r#"
variable "endpoint" {}
variable "source_ami" {}
source "amazon-ebs" "it" {
  ami_name                    = "byo-{{timestamp}}"
  communicator                = "none"
  custom_endpoint_ec2         = var.endpoint
  instance_type               = "t3.micro"
  region                      = "us-west-2"
  skip_metadata_api_check     = true
  skip_region_validation      = true
  source_ami                  = var.source_ami
}
build {
  sources = ["source.amazon-ebs.it"]
}
"#;

type Inventory = BTreeMap<String, Vec<String>>;

/// The template for EC2, and what there is before it is built.
fn on_ec2(host: &Host, moto: &Moto) -> Result<(Workspace, Inventory)> {
    let source = moto.image("a-source")?;
    let before = moto.inventory()?;
    let mut workspace = with_template(host, EC2)?;
    moto.serve(&mut workspace);
    let values = format!(
        "    template = \"it.pkr.hcl\"\n    variables = {{ endpoint = \"{}\", source_ami = \"{source}\" }}\n",
        moto.url()
    );
    workspace.edit("main.tf", "    template = \"it.pkr.hcl\"\n", &values)?;
    Ok((workspace, before))
}

fn more(moto: &Moto, before: &Inventory) -> Result<Inventory> {
    let mut now = moto.inventory()?;
    now.iter_mut().for_each(|(kind, ids)| ids.retain(|id| !before[kind].contains(id)));
    now.retain(|_, ids| !ids.is_empty());
    Ok(now)
}

/// Packer leaves an AMI that it still waits for when it is interrupted, and names no artifact.
#[test]
fn an_ami_that_is_pending_at_an_interrupt_goes() -> Result<()> {
    let (host, moto) = (Host::new()?, Moto::start()?);
    let (workspace, before) = on_ec2(&host, &moto)?;
    moto.images_take(Duration::from_secs(10), None)?;
    let mut running = workspace.start_apply()?;
    let deadline = Instant::now() + Duration::from_secs(120);
    while !log(&host).contains(" AMI: ami-") {
        let waits = Instant::now() < deadline && !running.has_ended()?;
        ensure!(waits, "no AMI is begun: {}", log(&host));
        std::thread::sleep(Duration::from_millis(100));
    }
    running.interrupt()?;
    let errors = running.wait(Duration::from_secs(120))?.fails()?;
    ensure!(errors.iter().any(|error| error.mentions("is deleted: us-west-2:ami-")), "{errors:?}");
    ensure!(more(&moto, &before)?.is_empty(), "left: {:?}", more(&moto, &before)?);
    host.inventory()?.ensure_empty()
}

#[test]
fn amis_of_a_template_are_looked_after() -> Result<()> {
    let (host, moto) = (Host::new()?, Moto::start()?);
    let (workspace, before) = on_ec2(&host, &moto)?;
    let more = |moto: &Moto| more(moto, &before);
    workspace.apply()?;
    workspace.converged()?;
    let made = more(&moto)?;
    let image = workspace.resource(IMAGE)?;
    let ami = image["artifacts"]["us-west-2"]["image_id"].as_str().context("no AMI")?.to_owned();
    assert_eq!(made["images"].as_slice(), std::slice::from_ref(&ami), "{made:?}");
    let artifacts = json!([{ "builder_id": "mitchellh.amazonebs", "id": format!("us-west-2:{ami}"), "files": [], "managed": true }]);
    assert_eq!(image["packer_artifacts"], artifacts);

    // Found again by another configuration of the same template, in another folder.
    moto.forget_requests()?;
    assert_eq!(workspace.plan()?.action(IMAGE), "no-op");

    moto.ec2("DeregisterImage", &[("ImageId", &ami)])?;
    assert_eq!(workspace.plan()?.action(IMAGE), "create");
    for snapshot in &made["snapshots"] {
        moto.ec2("DeleteSnapshot", &[("SnapshotId", snapshot)])?;
    }
    workspace.apply()?;
    assert_eq!(more(&moto)?["images"].len(), 1);
    workspace.destroy()?;
    ensure!(more(&moto)?.is_empty(), "left: {:?}", more(&moto)?);
    // With other credentials an image only seems to be gone: what is known of the first one stays.
    let left = host.inventory()?.files;
    ensure!(left.len() == 1 && left[0].starts_with("templates"), "left: {left:?}");
    Ok(())
}

#[test]
fn what_nobody_looks_after_is_recorded_and_left_alone() -> Result<()> {
    // A Packer whose builder nobody knows.
    let host = Host::new()?;
    let workspace = with_template(&host, "build {}\n")?;
    let fake = host.path().join("packer");
    let script = "#!/bin/sh\n[ \"$1\" != version ] || exec echo Packer v1.8.0\n\
        echo 1,other.it,artifact-count,1\necho 1,other.it,artifact,0,builder-id,other.cloud\n\
        echo 1,other.it,artifact,0,id,projects/1/images/2\necho 1,other.it,artifact,0,files-count,0\n\
        echo 1,other.it,artifact,0,end\n";
    fs::write(&fake, script)?;
    fs::set_permissions(&fake, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    workspace.variables(&json!({ "packer": fake }))?;
    let applied = workspace.apply()?;
    let warnings = applied.warnings();
    ensure!(warnings.iter().any(|it| it.mentions("other.cloud")), "{applied}");
    workspace.converged()?;
    assert_eq!(workspace.resource(IMAGE)?["packer_artifacts"][0]["managed"], false);
    let destroyed = workspace.destroy()?;
    let warnings = destroyed.warnings();
    ensure!(warnings.iter().any(|it| it.mentions("projects/1/images/2")), "{destroyed}");
    host.inventory()?.ensure_empty()
}

#[test]
fn an_image_of_the_other_packer_provider_moves_over() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = example(&host, cli)?;
        let moved = "\nmoved {\n  from = packer_image.greeting\n  to   = sindri_image.greeting\n}\n";
        workspace.edit("main.tf", "\noutput \"artifacts\"", &format!("{moved}\noutput \"artifacts\""))?;
        let registry = if cli == Cli::Tofu { "registry.opentofu.org" } else { "registry.terraform.io" };
        let attributes = json!({
            "id": "5f0c1d2e-0000-4000-8000-000000000001", "name": "greeting", "file": "template",
            "variables": { "greeting": "Hello" }, "additional_params": null, "directory": null, "force": null,
            "environment": { "A": "b" }, "ignore_environment": null, "triggers": null,
            "build_uuid": "5f0c1d2e-0000-4000-8000-000000000002",
        });
        let resource = json!({
            "mode": "managed", "type": "packer_image", "name": "greeting",
            "provider": format!("provider[\"{registry}/toowoxx/packer\"]"),
            "instances": [{ "schema_version": 0, "attributes": attributes, "sensitive_attributes": [] }],
        });
        let state = json!({
            "version": 4, "terraform_version": "1.8.0", "serial": 1,
            "lineage": "5f0c1d2e-0000-4000-8000-000000000003", "outputs": {}, "resources": [resource],
        });
        workspace.write("terraform.tfstate", &state.to_string())?;
        stand_in(&workspace)?;
        let plan = workspace.plan()?;
        assert_eq!(plan.action(IMAGE), "update", "{plan}");
        workspace.apply()?;
        workspace.converged()?;
        ensure!(!workspace.path().join("template/out").exists(), "it was built");
        assert_eq!(workspace.text(IMAGE, "origin")?, "imported");
        // The next change builds.
        workspace.variables(&json!({ "packer": PACKER, "token": TOKEN, "greeting": "Hail" }))?;
        assert_eq!(workspace.plan()?.action(IMAGE), "replace");
        workspace.apply()?;
        workspace.converged()?;
        assert_eq!(workspace.text(IMAGE, "origin")?, "built");
        workspace.destroy()?;
        host.inventory()?.ensure_empty()
    })
}

/// Hosts want to start every provider that the state names, and ask it for its schema. What it answers does not count: the
/// state is handed to the new type as it is stored. So any provider will do.
fn stand_in(workspace: &Workspace) -> Result<()> {
    let settings = fs::read_to_string(workspace.path().join("cli.tfrc"))?;
    let line = settings.lines().find(|line| line.contains("sindri/sindri")).context("no override")?;
    let provider = line.split('"').nth(3).context("no folder")?;
    let folder = workspace.path().join("stand-in");
    fs::create_dir(&folder)?;
    fs::copy(format!("{provider}/terraform-provider-sindri"), folder.join("terraform-provider-packer"))?;
    let more = format!("{line}\n    \"toowoxx/packer\" = {folder:?}");
    workspace.write("cli.tfrc", &settings.replace(line, &more))
}
