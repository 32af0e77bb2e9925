//! The provider's schema as OpenTofu prints it: what a user's program sees, not what our code means.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::repository;

const CONFIGURATION: &str =
    "terraform {\n  required_providers { sindri = { source = \"sindri/sindri\" } }\n}\n";

/// Builds the provider and asks OpenTofu for its schema: the object below the provider's address.
pub(crate) fn of_provider() -> Result<Value> {
    let binary = build()?;
    let folder = tempfile::Builder::new().prefix("sindri-schema-").tempdir()?;
    fs::write(folder.path().join("main.tf"), CONFIGURATION)?;
    let overrides = format!(
        "provider_installation {{\n  dev_overrides {{ \"sindri/sindri\" = {:?} }}\n  direct {{}}\n}}\n",
        binary.parent().context("the provider's binary has no folder")?
    );
    fs::write(folder.path().join("cli.tfrc"), overrides)?;
    let output = Command::new(acceptance_tests::built_tool("tofu")?)
        .args(["providers", "schema", "-json"])
        .current_dir(folder.path())
        .env("TF_CLI_CONFIG_FILE", folder.path().join("cli.tfrc"))
        .env("CHECKPOINT_DISABLE", "1")
        .output()
        .context("starting tofu")?;
    ensure!(output.status.success(), "tofu providers schema: {}", String::from_utf8_lossy(&output.stderr));
    let mut document: Value = serde_json::from_slice(&output.stdout).context("the schema is not JSON")?;
    let schema = document["provider_schemas"]["registry.opentofu.org/sindri/sindri"].take();
    ensure!(schema.is_object(), "tofu prints no schema of sindri/sindri");
    Ok(schema)
}

fn build() -> Result<std::path::PathBuf> {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "terraform-provider-sindri", "--message-format", "json"])
        .current_dir(repository::root())
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo")?;
    ensure!(output.status.success(), "the provider does not build");
    let messages = String::from_utf8_lossy(&output.stdout);
    let executable = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(Into::into))
        .next_back();
    executable.context("cargo names no executable of the provider")
}
