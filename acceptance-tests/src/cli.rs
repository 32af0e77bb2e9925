//! The hosts of the provider that this machine has, and the provider binary they are to start.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

/// A program that speaks the plugin protocol to the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cli {
    /// OpenTofu: from PATH, or built from its module.
    Tofu,
    /// Terraform: only when it is on PATH.
    Terraform,
}

impl Cli {
    /// The command's name, for messages and folder names.
    pub fn name(self) -> &'static str {
        match self {
            Cli::Tofu => "tofu",
            Cli::Terraform => "terraform",
        }
    }

    /// The registry that an address without a host name means to this program.
    pub fn registry(self) -> &'static str {
        match self {
            Cli::Tofu => "registry.opentofu.org",
            Cli::Terraform => "registry.terraform.io",
        }
    }

    /// Where the program is; `None` only for a Terraform that is not installed.
    ///
    /// # Errors
    /// When OpenTofu is neither on PATH nor can be built.
    pub fn program(self) -> Result<Option<&'static Path>> {
        static TOFU: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        static TERRAFORM: OnceLock<Option<PathBuf>> = OnceLock::new();
        match self {
            Cli::Tofu => TOFU
                .get_or_init(|| built_tool("tofu").map_err(|error| format!("{error:#}")))
                .as_deref()
                .map(Some)
                .map_err(|error| anyhow::anyhow!("{error}")),
            Cli::Terraform => Ok(TERRAFORM.get_or_init(|| on_path("terraform")).as_deref()),
        }
    }
}

/// Runs a scenario once under OpenTofu and once under Terraform, where that is installed.
/// `SINDRI_TEST_CLI=tofu` leaves it at one of them while a scenario is being worked on.
///
/// # Errors
/// The scenario's own, with the program's name in front.
pub fn each_cli(scenario: impl Fn(Cli) -> Result<()>) -> Result<()> {
    let only = std::env::var("SINDRI_TEST_CLI").ok();
    for cli in [Cli::Tofu, Cli::Terraform] {
        let why = match &only {
            Some(only) if only != cli.name() => "not asked for by SINDRI_TEST_CLI",
            _ if cli.program()?.is_none() => "not on PATH",
            _ => "",
        };
        if !why.is_empty() {
            say(&format!("note: not run under {}, which is {why}", cli.name()))?;
            continue;
        }
        scenario(cli).with_context(|| format!("under {}", cli.name()))?;
    }
    Ok(())
}

/// Runs a scenario that is about what is in a guest or an image, and takes its time, under one program only: OpenTofu, or the
/// one that `SINDRI_TEST_CLI` names. What the two see of such a machine or image is in the scenarios that both run.
///
/// # Errors
/// The scenario's own, with the program's name in front.
pub fn either_cli(scenario: impl Fn(Cli) -> Result<()>) -> Result<()> {
    let asked = std::env::var("SINDRI_TEST_CLI").is_ok_and(|only| only == Cli::Terraform.name());
    let cli = if asked { Cli::Terraform } else { Cli::Tofu };
    scenario(cli).with_context(|| format!("under {}", cli.name()))
}

/// Whether this can be tested here, which only root can do. Where it cannot, that is said, and in CI it is an error: there
/// nothing is left out.
///
/// # Errors
/// When it cannot, and this is CI.
pub fn only_root(what: &str) -> Result<bool> {
    if rustix::process::geteuid().is_root() {
        return Ok(true);
    }
    let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    ensure!(!in_ci, "only root can {what}, and CI is to run everything: let it run as root");
    say(&format!("note: not tested, because only root can {what}"))?;
    Ok(false)
}

/// Whether this machine is a Debian, whose own package sources only a Debian has. Where it is not, that is said.
///
/// # Errors
/// When `/etc/os-release` cannot be read.
pub fn only_debian(what: &str) -> Result<bool> {
    let release = std::fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    let is_debian = release.lines().any(|line| line.trim_matches('"') == "ID=debian");
    if !is_debian {
        say(&format!("note: not tested, this is not Debian, and only a Debian can {what}"))?;
    }
    Ok(is_debian)
}

/// Past the test runner's capture: what was not run has to be seen.
fn say(text: &str) -> Result<()> {
    writeln!(std::io::stderr(), "{text}").context("writing to standard error")
}

/// The root of the checkout.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

/// The folder that holds a current debug build of the provider, as `dev_overrides` wants it.
///
/// # Errors
/// When the provider does not build.
pub(crate) fn provider_folder() -> Result<&'static Path> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOLDER
        .get_or_init(|| match std::env::var_os("SINDRI_TEST_PROVIDER_DIR") {
            Some(folder) => Ok(folder.into()),
            None => build_provider().map_err(|error| format!("{error:#}")),
        })
        .as_deref()
        .map_err(|error| anyhow::anyhow!("{error}"))
}

fn build_provider() -> Result<PathBuf> {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "terraform-provider-sindri", "--message-format", "json"])
        .current_dir(repository())
        .output()
        .context("starting cargo")?;
    ensure!(output.status.success(), "cargo build: {}", String::from_utf8_lossy(&output.stderr));
    let binary = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
        .context("cargo names no executable of the provider")?;
    Ok(binary.parent().context("the provider's binary has no folder")?.to_owned())
}

/// A development tool, built by scripts/tools.sh if it is not there yet.
///
/// # Errors
/// When it cannot be built.
pub fn built_tool(name: &str) -> Result<PathBuf> {
    let output = Command::new(repository().join("scripts/tools.sh"))
        .arg(name)
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("starting scripts/tools.sh")?;
    ensure!(output.status.success(), "scripts/tools.sh {name} failed");
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}
