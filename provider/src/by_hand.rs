//! The binary in a person's hands: `doctor`, `init`, `sweep`, `prune`, `--version`.
//!
//! Everything else is the host's business.

mod args;
mod init;
mod prune;
mod sweep;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use tfplugin::{CancellationToken, Diagnostics};

use self::args::Args;
use crate::backends::{Backends, LOCAL};
use crate::domain::prerequisite::{Prerequisite, State, satisfied};
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
  terraform-provider-sindri sweep --vm ID [--dry-run]
                                               end this machine of this computer, which no state has, and remove it;
                                               nothing else
  terraform-provider-sindri prune --keep N [--dry-run]
                                               remove images of this computer that no resource holds, but for the
                                               newest N of each name prefix
  terraform-provider-sindri prune --layers [--dry-run]
                                               remove the base systems that the cache keeps for the next build, which
                                               then makes them anew, and trees of builds that were killed
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
        "doctor" => doctor(&args),
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

fn backends(data_dir: Option<&Path>) -> Result<Backends, String> {
    let mut model = ProviderModel::default();
    if let Some(dir) = data_dir {
        let dir = std::path::absolute(dir).map_err(|error| error.to_string())?;
        model.data_dir = dir.display().to_string().into();
    }
    let told = |diags: Diagnostics| diags.to_string();
    model.backends().map_err(told)?.ok_or_else(|| "the configuration is not known".to_owned())
}

fn doctor(args: &[OsString]) -> Result<ExitCode, String> {
    let mut args = Args::of("doctor", args);
    if let Some(word) = args.take()? {
        return Err(args.unknown(word));
    }
    let backends = backends(args.data_dir())?;
    let (runtime, cancel) = (runtime()?, CancellationToken::new());
    let mut found = runtime.block_on(backends.prerequisites(LOCAL, None, &cancel));
    let sound = satisfied(&found);
    // Who only works on this computer does without.
    for cloud in backends.clouds().into_iter().filter(|cloud| cloud.is_in_environment()) {
        found.extend(runtime.block_on(cloud.prerequisites(None, &cancel)));
    }
    print(&table(&found))?;
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What was looked at, a line each, and below it what was found or what to do.
fn table(found: &[Prerequisite]) -> String {
    let width = found.iter().map(|prerequisite| prerequisite.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for prerequisite in found {
        let Prerequisite { name, version, state, hint, required } = prerequisite;
        let line = format!("{:10} {name:width$}  {}", state.name(), version.as_deref().unwrap_or_default());
        text.push_str(line.trim_end());
        text.push('\n');
        let aside = if *required || *state == State::Ok { "" } else { "not required: " };
        for line in format!("{aside}{hint}").lines() {
            text.push_str(&format!("{:10} {line}\n", ""));
        }
    }
    text
}

fn sweep(args: &[OsString]) -> Result<ExitCode, String> {
    let mut args = Args::of("sweep", args);
    let asked = sweep::Asked::read(&mut args)?;
    let backends = backends(asked.data_dir().or(args.data_dir()))?;
    let done = runtime()?.block_on(sweep::sweep(&backends, &asked))?;
    let is_clean = done.lines.is_empty() && done.failures.is_empty();
    let mut lines = done.lines;
    if is_clean {
        lines.push("nothing to remove".to_owned());
    }
    if !done.machines.is_empty() {
        lines.extend(done.machines);
        lines.push(
            "a machine that no state has is imported as qemu/ID, or removed by `sweep --vm ID`".to_owned(),
        );
    }
    lines.extend(done.looked.map(|looked| looked.to_string()));
    let printed = print(&lines.iter().map(|line| format!("{line}\n")).collect::<String>())?;
    if done.failures.is_empty() { Ok(printed) } else { Err(done.failures.join("\n")) }
}

fn prune(args: &[OsString]) -> Result<ExitCode, String> {
    let mut args = Args::of("prune", args);
    let asked = prune::Asked::read(&mut args)?;
    let backends = backends(args.data_dir())?;
    print(&runtime()?.block_on(prune::prune(&backends, &asked))?)
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_sees_what_is_there_and_what_is_not_needed() {
        let one = |name: &str, version: Option<&str>, state, hint: &str, required| Prerequisite {
            name: name.into(),
            version: version.map(Into::into),
            state,
            hint: hint.into(),
            required,
        };
        let found = [
            one("qemu-img", Some("7.2"), State::Ok, "/usr/bin/qemu-img", true),
            one("Packer", Some("1.6.6"), State::Ok, "/usr/bin/packer", false),
            one("KVM", None, State::Missing, "guests run by translation", false),
            one("AWS", None, State::Unusable, "expired\nlog in again", true),
        ];
        let expected = "\
ok         qemu-img  7.2
           /usr/bin/qemu-img
ok         Packer    1.6.6
           /usr/bin/packer
missing    KVM
           not required: guests run by translation
unusable   AWS
           expired
           log in again
";
        assert_eq!(table(&found), expected);
    }

    #[test]
    fn doctor_takes_no_argument_but_a_folder() {
        for wrong in [&["aws"][..], &["--region", "us-west-2"], &["--data-dir", "/d", "aws"]] {
            let args: Vec<OsString> = wrong.iter().map(OsString::from).collect();
            assert!(doctor(&args).is_err_and(|text| text.contains("means nothing")), "{wrong:?}");
        }
    }
}
