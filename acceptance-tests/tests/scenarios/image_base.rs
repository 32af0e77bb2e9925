//! An image made from another disk: by path, by URL, and what must be refused.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use acceptance_tests::disk::sha256;
use acceptance_tests::web::{Fault, Server};
use acceptance_tests::{Cli, Host, each_cli, either_cli};
use anyhow::{Context, Result, ensure};
use serde_json::json;

const DERIVED: &str = "sindri_image.derived";

/// A bootable disk for others to be made from, built by the provider itself on a host of its own.
fn base(cli: Cli, host: &Host) -> Result<PathBuf> {
    let workspace = host.workspace(cli, "image")?;
    workspace.apply()?;
    let copy = host.path().join("base.qcow2");
    fs::copy(workspace.text("sindri_image.it", "path")?, &copy)?;
    workspace.destroy()?;
    Ok(copy)
}

/// A base is booted where nothing else is said.
#[test]
fn a_disk_by_path_is_booted_and_becomes_an_image() -> Result<()> {
    either_cli(|cli| {
        let host = Host::new()?;
        let base = base(cli, &host)?;
        let sum = sha256(&base)?;
        let workspace = host.workspace(cli, "qemu-base-image")?;
        let security = "  security = { remove_ssh_host_keys = false }\n\n  lifecycle {";
        workspace.edit("main.tf", "  lifecycle {", security)?;
        workspace.edit("main.tf", "    base = {", "    cpus = 1\n    compress = false\n    base = {")?;
        workspace.variables(&json!({ "base": base, "sha256": sum }))?;
        workspace.apply()?;
        workspace.converged()?;
        assert_eq!(host.inventory()?.processes, Vec::<String>::new(), "the builder's guest is still there");
        assert_eq!(sha256(&base)?, sum, "the base was written to");
        let id = workspace.text(DERIVED, "image_id")?;
        workspace.import_again(DERIVED, &format!("qemu/{id}"))?;
        workspace.destroy()?;
        host.inventory()?.ensure_empty()
    })
}

#[test]
fn a_disk_by_path_and_by_url_becomes_an_image() -> Result<()> {
    either_cli(|cli| {
        let host = Host::new()?;
        let base = base(cli, &host)?;
        let sum = sha256(&base)?;
        let mut workspace = host.workspace(cli, "qemu-base-image")?;
        workspace.edit("main.tf", "base = {", "boot = false\n    base = {")?;
        // Under the other program the same disk was downloaded.
        workspace.env("XDG_CACHE_HOME", host.path().join("cache"));

        workspace.variables(&json!({ "base": base, "sha256": sum }))?;
        workspace.apply()?;
        workspace.converged()?;
        let resolved = workspace.text(DERIVED, "resolved_base")?;
        ensure!(resolved.contains(&sum), "resolved_base {resolved:?} does not pin the base");
        assert_eq!(sha256(&base)?, sum, "the base was written to");
        let elsewhere = host.path().join("elsewhere.qcow2");
        fs::rename(&base, &elsewhere)?;
        workspace.converged().context("a base that is gone changes no image")?;
        workspace.run(&["plan", "-destroy", "-json"])?.succeeds()?;
        fs::rename(&elsewhere, &base)?;

        let server = Server::start()?;
        let url = server.publish("/base.qcow2", fs::read(&base)?);
        server.fault("/base.qcow2", Fault::Cut { after: 1 << 20, times: 2 });
        workspace.variables(&json!({ "base": url, "sha256": sum }))?;
        assert_eq!(workspace.plan()?.action(DERIVED), "update", "the same content is the same image");
        workspace.destroy()?;
        workspace.apply()?;
        workspace.converged()?;
        let from: Vec<_> = server.requests().iter().filter_map(|request| request.from).collect();
        ensure!(from.contains(&(1 << 20)), "a broken download was not resumed: {:?}", server.requests());
        workspace.import_again(DERIVED, &format!("qemu/{}", workspace.text(DERIVED, "image_id")?))?;

        workspace.destroy()?;
        host.inventory()?.ensure_empty()
    })
}

#[test]
fn a_wrong_checksum_or_a_missing_file_leaves_nothing() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let server = Server::start()?;
        let url = server.publish("/base.qcow2", vec![7; 100_000]);
        let wrong = "0".repeat(64);
        let workspace = host.workspace(cli, "qemu-base-image")?;
        for (base, words) in
            [(url.clone(), vec!["sha256", &wrong[..12]]), (url.replace("base", "none"), vec!["404"])]
        {
            workspace.variables(&json!({ "base": base, "sha256": wrong }))?;
            let errors = workspace.apply_with(&[])?.fails()?;
            for word in words {
                assert!(errors.iter().any(|error| error.mentions(word)), "{base}: no {word:?} in {errors:?}");
            }
            host.inventory()?.ensure_empty().with_context(|| base)?;
        }
        Ok(())
    })
}

#[test]
fn a_disk_with_a_backing_file_is_refused() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let (secret, disk) = (host.path().join("secret"), host.path().join("hostile.qcow2"));
        fs::write(&secret, vec![0; 1 << 20])?;
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
            .args([&secret, &disk])
            .status()?;
        ensure!(made.success(), "qemu-img create failed");
        let workspace = host.workspace(cli, "qemu-base-image")?;
        workspace.variables(&json!({ "base": disk }))?;
        let errors = workspace.apply_with(&[])?.fails()?;
        assert!(errors.iter().any(|error| error.mentions("backing file")), "{errors:?}");
        host.inventory()?.ensure_empty()
    })
}
