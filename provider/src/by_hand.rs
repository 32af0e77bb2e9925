//! The binary in a person's hands: `doctor`, `sweep`, `--version`.
//!
//! Everything else is the host's business.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use tfplugin::{CancellationToken, Diagnostics};

use crate::backends::aws::{self, Aws};
use crate::backends::qemu::sweep::Sweep;
use crate::backends::{Backends, qemu};
use crate::domain::prerequisite::satisfied;
use crate::provider::ProviderModel;
use crate::resources::diagnose;

const USAGE: &str = "\
terraform-provider-sindri is started by OpenTofu or Terraform. By hand it can do this:

  terraform-provider-sindri doctor             what is needed here, and is it there; AWS too, where it is set up
  terraform-provider-sindri sweep [--dry-run]  remove what killed builds left, and kept guests
  terraform-provider-sindri -debug             wait for a host to attach, for debugging
  terraform-provider-sindri --version

`doctor` and `sweep` look where the provider does by default; `--data-dir DIR` looks elsewhere.
";

/// Does what a person asked for. Prints to standard output.
pub fn run(command: &str, args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<String> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
    let done = match command {
        "--version" | "version" => {
            print(&format!("terraform-provider-sindri {}\n", env!("CARGO_PKG_VERSION")))
        }
        "--help" | "-h" | "help" => print(USAGE),
        "doctor" => backends(&args).and_then(|backends| doctor(&backends)),
        "sweep" => {
            backends(&args).and_then(|backends| sweep(&backends, args.iter().any(|arg| arg == "--dry-run")))
        }
        other => Err(format!("{other:?} is not known.\n\n{USAGE}")),
    };
    match done {
        Ok(code) => code,
        Err(text) => {
            let _ = writeln!(io::stderr(), "{text}");
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> Result<ExitCode, String> {
    io::stdout().write_all(text.as_bytes()).map_err(|error| error.to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn backends(args: &[String]) -> Result<Backends, String> {
    let mut model = ProviderModel::default();
    if let Some(at) = args.iter().position(|arg| arg == "--data-dir") {
        let dir = args.get(at + 1).ok_or("--data-dir needs a folder")?;
        let dir = std::path::absolute(dir).map_err(|error| error.to_string())?;
        model.data_dir = dir.display().to_string().into();
    }
    let told = |diags: Diagnostics| diags.to_string();
    model.backends().map_err(told)?.ok_or_else(|| "the configuration is not known".to_owned())
}

fn doctor(backends: &Backends) -> Result<ExitCode, String> {
    let (runtime, cancel) = (runtime()?, CancellationToken::new());
    let mut found = runtime.block_on(backends.prerequisites(qemu::CLOUD, None, &cancel));
    let sound = satisfied(&found);
    if Aws::is_in_environment() {
        // Who only works on this computer does without.
        found.extend(runtime.block_on(backends.prerequisites(aws::CLOUD, None, &cancel)));
    }
    let width = found.iter().map(|prerequisite| prerequisite.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for prerequisite in &found {
        let version = prerequisite.version.as_deref().unwrap_or_default();
        let line = format!("{:10} {:width$}  {version}", prerequisite.state.name(), prerequisite.name);
        text.push_str(line.trim_end());
        text.push('\n');
        if !prerequisite.hint.is_empty() {
            text.push_str(&format!("{:10} {}\n", "", prerequisite.hint));
        }
    }
    print(&text)?;
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn sweep(backends: &Backends, dry_run: bool) -> Result<ExitCode, String> {
    let swept = runtime()?
        .block_on(backends.local.sweep(if dry_run { Sweep::DryRun } else { Sweep::Everything }))
        .map_err(|error| diagnose::chain(&error))?;
    let verb = if dry_run { "would remove" } else { "removed" };
    let lines: String = swept.iter().map(|path| format!("{verb} {}\n", path.display())).collect();
    print(if lines.is_empty() { "nothing to remove\n" } else { &lines })
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())
}
