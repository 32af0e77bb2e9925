//! The binary in a person's hands: `doctor`, `init`, `sweep`, `prune`, `--version`.
//!
//! Everything else is the host's business.

mod init;
mod prune;
mod sweep;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use tfplugin::{CancellationToken, Diagnostics};

use crate::backends::aws::{self, Aws};
use crate::backends::{Backends, qemu};
use crate::domain::prerequisite::satisfied;
use crate::provider::ProviderModel;

const USAGE: &str = "\
terraform-provider-sindri is started by OpenTofu or Terraform. By hand it can do this:

  terraform-provider-sindri doctor             what is needed here, and is it there; AWS too, where it is set up
  terraform-provider-sindri init CLOUD         print a configuration to start from, for `aws`: init aws > main.tf
  terraform-provider-sindri sweep [--dry-run] [--region REGION]... [--all-regions]
                                               remove what killed builds left, and kept guests; in AWS, too, where it
                                               is set up: of builds and launches of this computer, and, in the
                                               environment's region and those that are named, what is past its deadline.
                                               --dry-run removes nothing, and tells of the machines of this computer
  terraform-provider-sindri prune --keep N [--dry-run]
                                               remove images of this computer that no resource holds, but for the
                                               newest N of each name prefix
  terraform-provider-sindri -debug             wait for a host to attach, for debugging
  terraform-provider-sindri --version

`doctor`, `sweep` and `prune` look where the provider does by default; `--data-dir DIR` looks elsewhere.
";

/// Does what a person asked for. Prints to standard output.
pub fn run(command: &str, args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    let done = match command {
        "--version" | "version" => {
            print(&format!("terraform-provider-sindri {}\n", env!("CARGO_PKG_VERSION")))
        }
        "--help" | "-h" | "help" => print(USAGE),
        "doctor" => data_dir(&args).and_then(backends).and_then(|backends| doctor(&backends)),
        "init" => init::configuration(&args).and_then(print),
        "sweep" => sweep(&args),
        "prune" => prune(&args),
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

/// The folder that the arguments name.
fn data_dir(args: &[OsString]) -> Result<Option<&Path>, String> {
    let Some(at) = args.iter().position(|arg| arg == "--data-dir") else { return Ok(None) };
    let dir = args.get(at + 1).ok_or("--data-dir needs a folder")?;
    Ok(Some(Path::new(dir)))
}

fn backends(data_dir: Option<&Path>) -> Result<Backends, String> {
    let mut model = ProviderModel::default();
    if let Some(dir) = data_dir {
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

fn sweep(args: &[OsString]) -> Result<ExitCode, String> {
    let asked = sweep::Asked::read(args)?;
    let dir = data_dir(args)?;
    let backends = backends(asked.data_dir().or(dir))?;
    let done = runtime()?.block_on(sweep::sweep(&backends, &asked))?;
    let is_clean = done.lines.is_empty() && done.failures.is_empty();
    let mut lines = done.lines;
    if is_clean {
        lines.push("nothing to remove".to_owned());
    }
    if !done.machines.is_empty() {
        lines.extend(done.machines);
        lines
            .push("a machine that no state has is imported as qemu/ID, and can be destroyed then".to_owned());
    }
    lines.extend(done.looked.map(|looked| looked.to_string()));
    let printed = print(&lines.iter().map(|line| format!("{line}\n")).collect::<String>())?;
    if done.failures.is_empty() { Ok(printed) } else { Err(done.failures.join("\n")) }
}

fn prune(args: &[OsString]) -> Result<ExitCode, String> {
    let asked = prune::Asked::read(args)?;
    let backends = backends(data_dir(args)?)?;
    print(&runtime()?.block_on(prune::prune(&backends, &asked))?)
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())
}
