//! What would be built, seen without a build: by both backends, under the distribution's Packer and a newer one. No cloud
//! is there to be asked.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use acceptance_tests::{Cli, Host, Workspace, built_tool, each_cli, within};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// The distribution's, which scripts/install.sh installs.
const PACKER: &str = "/usr/bin/packer";
const TOKEN: &str = "canary-5a1f0c7e";
/// What would do something anywhere on its way to the guest, if it were not a mere value.
const HOSTILE: &str = "a 'b' \"c\" $(touch canary) `touch canary` ${x} %{ if } {{ .Path }} \\ %s é";

fn shown(workspace: &Workspace, name: &str) -> Result<Value> {
    workspace.resource(&format!("data.sindri_template.{name}"))
}

fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str> {
    value[name].as_str().with_context(|| format!("no {name} in {value}"))
}

fn variables(shown: &Value) -> Result<Value> {
    Ok(serde_json::from_str(text(shown, "variables")?)?)
}

fn scripts(shown: &Value) -> Result<&[Value]> {
    Ok(shown["scripts"].as_array().context("no scripts")?)
}

/// Puts what is shown into a folder as a user would, and has Packer look at it.
fn by_hand(host: &Host, shown: &Value) -> Result<()> {
    let folder = tempfile::tempdir_in(host.path())?;
    let write = |name: &str, content: &str| -> Result<()> {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().context("a folder")?)?;
        Ok(fs::write(path, content)?)
    };
    write("template/image.pkr.hcl", text(shown, "hcl")?)?;
    write("template/values.auto.pkrvars.json", text(shown, "variables")?)?;
    for script in scripts(shown)?.iter().filter(|script| script["file"].is_string()) {
        write(text(script, "file")?, script["content"].as_str().unwrap_or_default())?;
    }
    write("base.img", "")?;
    let key = folder.path().join("ssh_key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status()?;
    ensure!(made.success(), "ssh-keygen failed");
    packer(folder.path(), &["validate", "template"])?;
    packer(folder.path(), &["fmt", "-check", "template"])
}

fn packer(folder: &Path, arguments: &[&str]) -> Result<()> {
    let said = Command::new(PACKER)
        .args(arguments)
        .current_dir(folder)
        .env("CHECKPOINT_DISABLE", "1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .output()?;
    ensure!(said.status.success(), "packer {arguments:?}: {}", String::from_utf8_lossy(&said.stdout));
    Ok(())
}

#[test]
fn what_is_shown_is_what_packer_takes() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "template")?;
        workspace.variables(&json!({ "packer": PACKER, "validate": true }))?;
        workspace.apply()?;
        workspace.converged()?;
        for name in ["aws", "qemu"] {
            let shown = shown(&workspace, name)?;
            assert_eq!(shown["packer_version"], "1.6.6");
            assert_eq!(shown["hidden_variables"], json!(["TOKEN"]));
            by_hand(&host, &shown).with_context(|| name.to_owned())?;
            let of_steps = scripts(&shown)?.iter().filter(|script| script["belongs_to"] == "provision");
            let steps: Vec<_> = of_steps.filter_map(|script| script["step"].as_u64()).collect();
            assert_eq!(steps, [0, 0, 1, 2], "an upload and its script, and one script a step");
        }
        assert_eq!(variables(&shown(&workspace, "aws")?)?["tags"]["role"], "web");
        let native = shown(&workspace, "native")?;
        assert_eq!((&native["hcl"], &native["variables"]), (&Value::Null, &Value::Null));
        ensure!(scripts(&native)?.iter().any(|script| script["content"] == "nginx -t"), "{native}");
        host.inventory()?.ensure_empty()
    })
}

#[test]
fn a_newer_packer_gets_another_template() -> Result<()> {
    let host = Host::new()?;
    let workspace = host.workspace(Cli::Tofu, "template")?;
    workspace.variables(&json!({ "packer": built_tool("packer")?, "validate": true }))?;
    workspace.apply()?;
    for name in ["aws", "qemu"] {
        let shown = shown(&workspace, name)?;
        assert_eq!(shown["packer_version"], "1.10.0");
        ensure!(!text(&shown, "hcl")?.contains("required_plugins"), "this one has its builders in it");
    }
    // One that is not there: its plugins are programs of their own.
    workspace.variables(&json!({ "packer": "/no/such", "packer_version": "1.11.2" }))?;
    workspace.apply()?;
    for name in ["aws", "qemu"] {
        ensure!(text(&shown(&workspace, name)?, "hcl")?.contains("required_plugins"), "{name}");
    }
    Ok(())
}

/// An image and what is shown of it, with the same values.
const BOTH: &str = r#"
terraform {
  required_providers { sindri = { source = "sindri/sindri" } }
}

variable "hostile" { type = string }

variable "token" {
  type      = string
  sensitive = true
  ephemeral = true
}

variable "target" { type = any }

provider "sindri" {
  packer = { binary = "/usr/bin/packer" }
}

resource "sindri_image" "it" {
  name_prefix            = "it"
  tags                   = { plain = "x" }
  aws                    = lookup(var.target, "aws", null)
  qemu                   = lookup(var.target, "qemu", null)
  environment            = { PLAIN = var.hostile }
  environment_wo         = { TOKEN = var.token }
  environment_wo_version = 3
  provision              = [{ inline = ["echo ${var.hostile}"], environment_wo = { ONE = var.token } }]
  verify                 = [{ name = "is ${var.hostile}", command = "test ${var.hostile}" }]
}

data "sindri_template" "it" {
  name_prefix            = "it"
  tags                   = { plain = "x" }
  aws                    = lookup(var.target, "aws", null)
  qemu                   = lookup(var.target, "qemu", null)
  environment            = { PLAIN = var.hostile }
  environment_wo_names   = ["TOKEN"]
  environment_wo_version = 3
  provision              = [{ inline = ["echo ${var.hostile}"], environment_wo_names = ["ONE"] }]
  verify                 = [{ name = "is ${var.hostile}", command = "test ${var.hostile}" }]
  validate               = true
}
"#;

#[test]
fn hostile_values_stay_values_and_secrets_are_nowhere() -> Result<()> {
    let base = json!({ "bootstrap": { "suite": "bookworm" } });
    let targets = [
        json!({ "aws": { "region": "us-west-2", "instance_type": "t3.large" } }),
        json!({ "qemu": { "engine": "packer", "boot": true, "base": base } }),
    ];
    for target in targets {
        let host = Host::new()?;
        let moto = acceptance_tests::Moto::start()?;
        let mut workspace = host.workspace(Cli::Tofu, "empty")?;
        moto.serve(&mut workspace);
        workspace.write("main.tf", BOTH)?;
        workspace.variables(&json!({ "hostile": HOSTILE, "token": TOKEN, "target": target }))?;
        let planned = workspace.plan()?;
        let planned = planned.change("sindri_image.it").context("no image is planned")?.clone();
        workspace.apply_with(&["-target=data.sindri_template.it"])?.succeeds()?;
        let shown = shown(&workspace, "it")?;
        assert_eq!(planned.after["cache_key"], shown["cache_key"]);
        assert_eq!(shown["hidden_variables"], json!(["ONE", "PLAIN", "TOKEN"]));
        let quoted = HOSTILE.replace('\'', r"'\''");
        let step = scripts(&shown)?.iter().find(|script| script["step"] == 0).context("no step")?;
        let content = text(step, "content")?;
        ensure!(content.contains(&format!("echo {quoted}\n")), "{content}");
        for name in ["ONE", "PLAIN", "TOKEN"] {
            ensure!(content.contains(&format!("export {name}='(not shown)'")), "{name}: {content}");
        }
        ensure!(!text(&shown, "hcl")?.contains("touch"), "a value is in the template");
        ensure!(!workspace.state_contains(TOKEN)?, "the secret is in the state");
        ensure!(!workspace.path().join("canary").exists(), "a value became code");
        by_hand(&host, &shown)?;
        moto.ensure_no_machines()?;
        host.inventory()?.ensure_empty()?;
    }
    Ok(())
}

#[test]
fn what_cannot_be_shown_says_why() -> Result<()> {
    let host = Host::new()?;
    let workspace = host.workspace(Cli::Tofu, "template")?;
    let old = "volume_size_gb = 20 }";
    workspace.variables(&json!({ "packer": "/no/such", "validate": false }))?;
    let errors = workspace.plan_fails()?;
    ensure!(errors.iter().any(|error| error.mentions("/no/such")), "{errors:?}");
    workspace.variables(&json!({ "packer": PACKER, "packer_version": "1.11.2", "validate": true }))?;
    let errors = workspace.plan_fails()?;
    ensure!(
        errors.iter().any(|error| error.mentions("the Packer that would validate is 1.6.6")),
        "{errors:?}"
    );
    // What Packer itself has against it.
    workspace.variables(&json!({ "packer": PACKER, "validate": true }))?;
    workspace.edit("main.tf", old, "volume_size_gb = 20, iops = 8000, throughput = 2000 }")?;
    let errors = workspace.plan_fails()?;
    let told = errors.iter().any(|error| error.mentions("does not accept") && error.mentions("hroughput"));
    ensure!(told, "{errors:?}");
    host.inventory()?.ensure_empty()
}

#[test]
fn a_packer_that_hangs_ends_with_the_users_patience() -> Result<()> {
    let host = Host::new()?;
    let workspace = host.workspace(Cli::Tofu, "template")?;
    let (fake, asked) = (host.path().join("packer"), host.path().join("asked"));
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = version ] && exec echo Packer v1.6.6\npwd >>{}\nexec sleep 600\n",
        asked.display()
    );
    fs::write(&fake, script)?;
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755))?;
    workspace.variables(&json!({ "packer": fake, "validate": true }))?;
    // An apply hands an interrupt on only when its own plan is done.
    let running = workspace.start(&["plan", "-json"])?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while !asked.exists() {
        ensure!(Instant::now() < deadline, "Packer was never asked");
        std::thread::sleep(Duration::from_millis(50));
    }
    running.interrupt()?;
    running.wait(Duration::from_secs(30))?.fails()?;
    // The folder that Packer was to look at has gone with it.
    for folder in fs::read_to_string(&asked)?.lines() {
        ensure!(!Path::new(folder).exists(), "{folder} is left");
    }
    within(Duration::from_secs(10), || host.inventory()?.ensure_empty())
}
