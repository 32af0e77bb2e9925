//! Images whose steps Packer runs: the one that the distribution has, the oldest that is driven, and a newer one.
//!
//! What happens between the provider and Packer is the same under every host, and a boot is dear: these scenarios run
//! under OpenTofu alone. Plans of the same example are read by both in `examples.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use acceptance_tests::{Cli, Host, Running, Workspace, built_tool, disk, within};
use anyhow::{Context, Result, ensure};
use serde_json::json;

const IMAGE: &str = "sindri_image.packed";
const TOKEN: &str = "canary-5a1f0c7e";
/// After the line "BEGIN OPENSSH PRIVATE KEY", which stands in OpenSSH's programs, too.
const PRIVATE_KEY: &str = "b3BlbnNzaC1rZXktdjEA";
/// The builder's or another one.
const PUBLIC_KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAI";

/// The distribution's, which scripts/install.sh installs.
fn oldest() -> Result<PathBuf> {
    let path = PathBuf::from("/usr/bin/packer");
    ensure!(path.is_file(), "Packer is not installed: run scripts/install.sh test");
    Ok(path)
}

fn log(host: &Host) -> String {
    fs::read_to_string(host.data_dir().join("logs/latest-packed.log")).unwrap_or_default()
}

#[test]
fn steps_run_by_packer_make_an_image_that_keeps_its_promises() -> Result<()> {
    let host = Host::new()?;
    let workspace = host.workspace(Cli::Tofu, "qemu-packer")?;
    workspace.variables(&json!({ "packer": built_tool("packer")?, "token": TOKEN }))?;
    // On the finished image, by our own guest, whose key is the only one.
    let steps = "test -e /etc/rebooted && grep -q Sindri /etc/motd && grep -qx 16 /etc/token-length";
    let clean = "! test -e /var/tmp/sindri-build && test $(wc -l < /root/.ssh/authorized_keys) = 1";
    let verify = format!(
        "  verify = [\n    {{ name = \"steps\", command = \"{steps}\" }},\n    {{ name = \"clean\", command = \"{clean}\" }},\n  ]\n\n  lifecycle {{"
    );
    workspace.edit("main.tf", "  lifecycle {", &verify)?;
    workspace.edit(
        "main.tf",
        "    cpus      = var.cpus",
        "    cpus         = var.cpus\n    disk_size_gb = 4\n    compress     = false",
    )?;
    workspace.apply()?;
    workspace.converged()?;
    let log = log(&host);
    for words in ["Handing over to Packer 1.10.0", "Provisioning step 3 (reboot)", "Checking: clean"] {
        ensure!(log.contains(words), "no {words:?} in {log}");
    }
    ensure!(!log.contains(TOKEN) && !workspace.state_contains(TOKEN)?, "the secret is told");
    assert_eq!(host.inventory()?.processes, Vec::<String>::new(), "Packer or its guest is still there");
    let (written, path) = ("provisioned by Packer", workspace.text(IMAGE, "path")?);
    let found = on_disk(&host, &path, &[TOKEN, PRIVATE_KEY, PUBLIC_KEY, written])?;
    assert_eq!(found, BTreeSet::from([written.to_owned()]), "what the disk has of secrets, keys and steps");

    // Who ran the steps is no part of what the image is.
    workspace.edit("main.tf", "engine    = \"packer\"", "engine    = \"native\"\n    boot      = true")?;
    assert_eq!(workspace.plan()?.action(IMAGE), "update");
    workspace.destroy()?;
    host.inventory()?.ensure_empty()
}

/// Which of these texts are anywhere on the disk, in deleted files, too.
fn on_disk(host: &Host, path: &str, texts: &[&str]) -> Result<BTreeSet<String>> {
    let raw = host.path().join("disk.raw");
    let made = Command::new("qemu-img").args(["convert", "-O", "raw", path]).arg(&raw).status()?;
    ensure!(made.success(), "qemu-img convert failed");
    // What lies between two zero bytes is a line.
    let mut search = Command::new("grep");
    search.args(["--null-data", "--text", "--only-matching", "-F"]).env("LC_ALL", "C");
    search.args(texts.iter().flat_map(|text| ["-e", text])).arg(&raw);
    let found = search.output()?.stdout;
    Ok(String::from_utf8(found)?.split_terminator('\0').map(str::to_owned).collect())
}

/// An apply whose guest boots under the distribution's Packer.
fn amid_a_boot() -> Result<(Host, Workspace, Running)> {
    let host = Host::new()?;
    let workspace = host.workspace(Cli::Tofu, "qemu-packer")?;
    workspace.variables(&json!({ "packer": oldest()?, "token": TOKEN }))?;
    let running = workspace.start_apply()?;
    let deadline = Instant::now() + Duration::from_secs(600);
    while !log(&host).contains("Waiting for SSH") {
        ensure!(Instant::now() < deadline, "Packer never booted its guest: {}", log(&host));
        std::thread::sleep(Duration::from_millis(100));
    }
    ensure!(log(&host).contains("Handing over to Packer 1.6.6"), "{}", log(&host));
    Ok((host, workspace, running))
}

#[test]
fn an_interrupted_packer_cleans_up_and_leaves_nothing() -> Result<()> {
    let (host, _workspace, running) = amid_a_boot()?;
    running.interrupt()?;
    let outcome = running.wait(Duration::from_secs(60))?;
    ensure!(!outcome.success, "an interrupted apply passed for a success");
    // By itself, not by the supervisor's kill.
    ensure!(log(&host).contains("Deleting output directory"), "{}", log(&host));
    within(Duration::from_secs(10), || host.inventory()?.ensure_empty())
}

#[test]
fn nothing_is_left_of_a_killed_providers_packer_after_the_next_apply() -> Result<()> {
    let (host, workspace, running) = amid_a_boot()?;
    running.kill_provider()?;
    running.wait(Duration::from_secs(60))?.fails()?;
    // The next one takes the quick way.
    workspace.edit("main.tf", "engine    = \"packer\"\n", "")?;
    workspace.edit("main.tf", "    { reboot = true },\n", "")?;
    workspace.edit(
        "main.tf",
        "\"! grep -qx \\\"$(cat /proc/sys/kernel/random/boot_id)\\\" /etc/first-boot\", ",
        "",
    )?;
    workspace.apply()?;
    let inventory = host.inventory()?;
    assert_eq!(inventory.ids("images"), [workspace.text(IMAGE, "image_id")?], "{inventory}");
    assert_eq!(inventory.processes, Vec::<String>::new(), "{inventory}");
    workspace.destroy()?;
    within(Duration::from_secs(10), || host.inventory()?.ensure_empty())
}

/// Packer keeps QEMU's own words to itself.
#[test]
fn why_qemu_does_not_start_is_told() -> Result<()> {
    let host = Host::new()?;
    let workspace = host.workspace(Cli::Tofu, "qemu-packer")?;
    workspace.variables(&json!({ "packer": oldest()?, "token": TOKEN }))?;
    let base = disk::blank(host.path())?;
    workspace.edit("main.tf", "bootstrap = { suite = var.suite }", &format!("image = {base:?}"))?;
    workspace.edit("main.tf", "memory_mb = 1024", "memory_mb = 900000000")?;
    let errors = workspace.apply_with(&[])?.fails()?;
    ensure!(errors.iter().any(|error| error.mentions("annot allocate memory")), "{errors:?}");
    host.inventory()?.ensure_empty()
}

#[test]
fn what_cannot_be_used_is_said_before_anything_is_built() -> Result<()> {
    let host = Host::new()?;
    let workspace = host.workspace(Cli::Tofu, "qemu-packer")?;
    let fake = host.path().join("packer");
    for (script, words) in [
        ("echo Packer v1.6.0", vec!["1.6.6", "engine", "1.6.0"]),
        ("echo 'version.pwd: No such file'", vec!["another program", "PACKER_BIN"]),
        ("echo Packer v1.5.1", vec!["1.5.1", "install a newer one"]),
    ] {
        fs::write(&fake, format!("#!/bin/sh\n{script}\n"))?;
        fs::set_permissions(&fake, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        workspace.variables(&json!({ "packer": fake }))?;
        let errors = workspace.apply_with(&[])?.fails()?;
        for word in words {
            ensure!(errors.iter().any(|error| error.mentions(word)), "{script}: no {word:?} in {errors:?}");
        }
        host.inventory()?.ensure_empty().with_context(|| script.to_owned())?;
    }
    workspace.edit("main.tf", "engine    = \"packer\"", "engine    = \"packer\"\n    boot      = false")?;
    let errors = workspace.plan_fails()?;
    ensure!(errors.iter().any(|error| error.mentions("booted guest only")), "{errors:?}");
    Ok(())
}
