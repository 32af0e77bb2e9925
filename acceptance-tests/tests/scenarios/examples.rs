//! What the documentation shows is what the programs accept.

use std::fs;
use std::path::PathBuf;

use acceptance_tests::{Host, Moto, each_cli, repository};
use anyhow::{Context, Result};
use serde_json::json;

/// The configuration folders of `examples/`, by name.
fn configurations() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(repository().join("examples"))? {
        let entry = entry?;
        if entry.path().join("main.tf").is_file() {
            names.extend(entry.file_name().into_string());
        }
    }
    Ok(names)
}

/// The snippets from which the pages of the reference are made.
fn snippets() -> Result<Vec<PathBuf>> {
    let mut files = vec![repository().join("examples/provider/provider.tf")];
    for kind in ["resources", "data-sources", "functions"] {
        for entry in fs::read_dir(repository().join("examples").join(kind))? {
            for file in fs::read_dir(entry?.path())? {
                files.push(file?.path());
            }
        }
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "tf"));
    Ok(files)
}

#[test]
fn every_example_is_valid_and_formatted() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let names = configurations()?;
        assert!(names.len() >= 8, "{names:?}");
        for name in names {
            let workspace = host.workspace(cli, &name)?;
            workspace.run(&["validate", "-json"])?.succeeds()?;
            workspace.run(&["fmt", "-check", "-recursive"])?.succeeds()?;
        }
        Ok(())
    })
}

#[test]
fn the_snippets_of_the_reference_fit_together() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "empty")?;
        for (number, file) in snippets()?.iter().enumerate() {
            workspace.write(&format!("{number}.tf"), &fs::read_to_string(file)?)?;
        }
        // What the snippets read.
        workspace.write("setup.sh", "true\n")?;
        workspace.write("cloud-init.yaml", "#cloud-config\n{}\n")?;
        workspace.run(&["validate", "-json"])?.succeeds()?;
        workspace.run(&["fmt", "-check"])?.succeeds()?;
        Ok(())
    })
}

#[test]
fn what_init_prints_works_as_it_stands() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let moto = Moto::start()?;
        let mut workspace = host.workspace(cli, "empty")?;
        moto.serve(&mut workspace);
        let printed = host.provider(&["init", "aws"])?;
        assert!(printed.status.success() && printed.stderr.is_empty(), "{printed:?}");
        let text = String::from_utf8(printed.stdout)?;
        workspace.write("main.tf", &text)?;
        workspace.run(&["fmt", "-check", "-diff"])?.succeeds()?;
        workspace.run(&["validate", "-json"])?.succeeds()?;
        assert_eq!(workspace.plan()?.action("sindri_image.this"), "create");

        // The machine that is commented out.
        let (before, rest) = text.split_once("# resource \"sindri_vm\"").context("no machine")?;
        let (machine, after) = rest.split_once("\n\noutput").context("no outputs")?;
        let lines = machine.lines().map(|line| line.strip_prefix('#').unwrap_or(line));
        let lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n");
        workspace.write("main.tf", &format!("{before}resource \"sindri_vm\" {lines}\n\noutput{after}"))?;
        workspace.variables(&json!({ "allowed_cidrs": ["203.0.113.7/32"] }))?;
        workspace.run(&["fmt", "-check", "-diff"])?.succeeds()?;
        assert_eq!(workspace.plan()?.action("sindri_vm.this"), "create");

        for arguments in [&["init"][..], &["init", "azure"]] {
            let refused = host.provider(arguments)?;
            let told = String::from_utf8(refused.stderr)?;
            assert!(!refused.status.success() && told.contains("There is: aws"), "{told}");
        }
        moto.ensure_no_machines()
    })
}

#[test]
fn an_image_of_limited_age() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "qemu-repave")?;
        workspace.apply()?;
        workspace.converged()?;
        workspace.variables(&json!({ "max_age": "0s" }))?;
        assert_eq!(workspace.plan()?.action("sindri_image.fresh"), "replace");
        workspace.destroy()?;
        host.inventory()?.ensure_empty()
    })
}
