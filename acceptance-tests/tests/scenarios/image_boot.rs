//! Steps and checks in a booted guest.

use std::fs;
use std::process::{Command, Stdio};

use acceptance_tests::{Host, each_cli, either_cli};
use anyhow::{Context, Result, ensure};
use serde_json::json;

#[test]
fn steps_run_in_a_booted_guest_across_a_reboot() -> Result<()> {
    either_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "qemu-booted")?;
        let security = "  security = { remove_ssh_host_keys = false }\n\n  lifecycle {";
        workspace.edit("main.tf", "  lifecycle {", security)?;
        workspace.apply()?;
        workspace.converged()?;
        assert_eq!(host.inventory()?.processes, Vec::<String>::new(), "the builder's guest is still there");
        let id = workspace.text("sindri_image.booted", "image_id")?;
        workspace.import_again("sindri_image.booted", &format!("qemu/{id}"))?;
        workspace.destroy()?;
        host.inventory()?.ensure_empty()
    })
}

#[test]
fn a_check_that_fails_publishes_nothing() -> Result<()> {
    either_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "image")?;
        let verify = json!([
            { "name": "the marker is there", "command": "grep -qx one /etc/marker" },
            { "name": "pigs fly", "command": "echo no wings >&2; exit 9" },
        ]);
        workspace.variables(&json!({ "verify": verify }))?;
        let errors = workspace.apply_with(&[])?.fails()?;
        for words in ["pigs fly", "9", "no wings", ".log"] {
            assert!(errors.iter().any(|error| error.mentions(words)), "no {words:?} in {errors:?}");
        }
        assert!(
            !errors.iter().any(|error| error.mentions("check \"the marker is there\" failed")),
            "{errors:?}"
        );
        assert_eq!(host.inventory()?.ids("images"), Vec::<String>::new());
        workspace.destroy()?;
        host.inventory()?.ensure_empty()
    })
}

#[test]
fn a_guest_that_is_kept_can_be_looked_at() -> Result<()> {
    either_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "qemu-booted")?;
        workspace.edit(
            "main.tf",
            "name_prefix = \"booted\"",
            "name_prefix = \"booted\"\n  on_error = \"keep\"",
        )?;
        workspace.edit(
            "main.tf",
            "{ reboot = true },",
            "{ inline = [\"echo found-me > /root/clue\", \"exit 3\"] },",
        )?;
        let errors = workspace.apply_with(&[])?.fails()?;
        let error = errors.iter().find(|error| error.mentions("ssh ")).context("no ssh command")?;
        let command = error.detail.lines().find_map(|line| line.find("ssh -").map(|at| line[at..].trim()));
        let command = command.with_context(|| format!("no ssh command in {}", error.detail))?;
        let command = command.trim_end_matches(['`', '.']);
        find_clue(command)?;

        // Every build removes what others left behind; this was left on purpose.
        let other = host.workspace(cli, "image")?;
        other.apply()?;
        find_clue(command)?;
        other.destroy()?;
        workspace.destroy()?;
        sweep(&host)?;
        host.inventory()?.ensure_empty()
    })
}

/// Looks into the kept guest by the command from the diagnostic.
fn find_clue(ssh: &str) -> Result<()> {
    let line = format!("{ssh} cat /root/clue");
    let output = Command::new("sh").args(["-c", &line]).stdin(Stdio::null()).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(String::from_utf8_lossy(&output.stdout).trim() == "found-me", "{line}: {errors}");
    Ok(())
}

/// What a user types to remove a kept guest.
fn sweep(host: &Host) -> Result<()> {
    let output = host.provider(&["sweep", "--data-dir", &host.data_dir().to_string_lossy()])?;
    ensure!(output.status.success(), "sweep: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn a_step_that_fails_is_told_with_its_last_lines() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "qemu-steps")?;
        workspace.write(
            "setup.sh",
            "#!/bin/sh\nfor n in $(seq 100); do echo line $n; done\necho the end is near >&2\nexit 42\n",
        )?;
        let errors = workspace.apply_with(&[])?.fails()?;
        for words in ["setup.sh", "42", "the end is near", "line 100", ".log"] {
            assert!(errors.iter().any(|error| error.mentions(words)), "no {words:?} in {errors:?}");
        }
        assert_eq!(errors[0].address, "sindri_image.steps");
        let log = fs::read_dir(host.data_dir().join("logs"))?.count();
        assert!(log > 0, "the log is gone");
        workspace.destroy()?;
        host.inventory()?.ensure_empty()
    })
}
