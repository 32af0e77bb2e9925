//! One configuration in a temporary folder, run by one program on one host.
//!
//! The environment is built from nothing but a short list, so that a developer's own settings,
//! credentials and plugin caches do not reach a scenario.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::{provider_folder, repository};
use crate::host::{cache_home, suite};
use crate::{Cli, Guest, Host, Outcome, Plan, Running, user};

/// What a run inherits from the developer's environment.
const INHERITED: [&str; 12] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "TF_LOG",
    "TF_LOG_PATH",
];

/// Longer than any operation of `make test` takes.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// A configuration with its state.
#[derive(Debug)]
pub struct Workspace {
    cli: Cli,
    program: PathBuf,
    folder: TempDir,
    environment: Vec<(OsString, OsString)>,
}

impl Workspace {
    pub(crate) fn new(host: &Host, cli: Cli, scenario: &str) -> Result<Self> {
        let program = cli.program()?.with_context(|| format!("{} is not installed", cli.name()))?.to_owned();
        let folder = tempfile::Builder::new().prefix("workspace-").tempdir_in(host.path())?;
        let candidates = [
            repository().join("examples").join(scenario),
            repository().join("acceptance-tests/scenarios").join(scenario),
        ];
        let source = candidates
            .iter()
            .find(|path| path.is_dir())
            .with_context(|| format!("no scenario {scenario}"))?;
        copy(source, folder.path())?;

        let config = folder.path().join("cli.tfrc");
        fs::write(&config, overrides(provider_folder()?))?;
        let mut environment: Vec<(OsString, OsString)> = INHERITED
            .iter()
            .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)))
            .collect();
        let own = [
            ("TF_CLI_CONFIG_FILE", config.into_os_string()),
            ("TF_IN_AUTOMATION", "1".into()),
            ("TF_INPUT", "0".into()),
            ("CHECKPOINT_DISABLE", "1".into()),
            ("TF_VAR_suite", suite()?.into()),
            ("TF_VAR_arch", if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" }.into()),
            // Several guests run at the same time, and a second processor makes an emulated one wait for itself.
            ("TF_VAR_cpus", "1".into()),
            ("XDG_DATA_HOME", host.data_home().into_os_string()),
            ("XDG_CACHE_HOME", cache_home().into_os_string()),
        ];
        environment.extend(own.map(|(name, value)| (name.into(), value)));
        fs::create_dir_all(host.data_home())?;
        fs::create_dir_all(cache_home())?;
        Ok(Workspace { cli, program, folder, environment })
    }

    /// The program that runs it.
    pub fn cli(&self) -> Cli {
        self.cli
    }

    /// The configuration's folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Sets an environment variable of every later run.
    pub fn env(&mut self, name: &str, value: impl Into<OsString>) -> &mut Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.into(), value.into()));
        self
    }

    /// From now on an account without any rights runs everything, with an empty home and cache. Only root can do this.
    ///
    /// # Errors
    /// When what it needs cannot be given to it.
    pub fn as_ordinary_user(&mut self, host: &Host) -> Result<()> {
        let user = host.path().join("user");
        self.program = user::program(&user, &self.program)?;
        let provider = user.join("provider");
        fs::create_dir(&provider)?;
        let binary = "terraform-provider-sindri";
        fs::copy(provider_folder()?.join(binary), provider.join(binary))?;
        self.write("cli.tfrc", &overrides(&provider))?;
        self.env("HOME", user.join("home")).env("XDG_CACHE_HOME", user.join("home/.cache"));
        user::give(host.path())
    }

    /// Sets the configuration's variables for every later run.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn variables(&self, values: &Value) -> Result<()> {
        self.write("scenario.auto.tfvars.json", &values.to_string())
    }

    /// Writes or replaces a file of the configuration.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, name: &str, content: &str) -> Result<()> {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().context("a file needs a folder")?)?;
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))
    }

    /// Replaces a piece of a file that must be there: a user's edit.
    ///
    /// # Errors
    /// When the text is not in the file.
    pub fn edit(&self, name: &str, old: &str, new: &str) -> Result<()> {
        let text = fs::read_to_string(self.path().join(name)).with_context(|| format!("reading {name}"))?;
        ensure!(text.contains(old), "{name} does not contain {old:?}");
        self.write(name, &text.replacen(old, new, 1))
    }

    /// Any command, to its end.
    ///
    /// # Errors
    /// When it cannot be started or does not end.
    pub fn run(&self, arguments: &[&str]) -> Result<Outcome> {
        self.start(arguments)?.wait(LIMIT)
    }

    /// Any command, left running.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, arguments: &[&str]) -> Result<Running> {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(self.path()).env_clear();
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Running::start(command, format!("{} {}", self.cli.name(), arguments.join(" ")))
    }

    /// Runs the provider's binary by hand, in this workspace's environment.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn provider(&self, arguments: &[&str]) -> Result<Output> {
        self.provider_command(arguments)?.output().context("starting the provider by hand")
    }

    /// The same, for whoever starts it.
    ///
    /// # Errors
    /// When the provider does not build.
    pub fn provider_command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(provider_folder()?.join("terraform-provider-sindri"));
        command.args(arguments).env_clear();
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    /// `apply`, left running.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_apply(&self) -> Result<Running> {
        self.start(&["apply", "-json", "-auto-approve"])
    }

    /// `apply` with more arguments.
    ///
    /// # Errors
    /// When it cannot be run; a failed apply is an [`Outcome`].
    pub fn apply_with(&self, arguments: &[&str]) -> Result<Outcome> {
        self.run(&[&["apply", "-json", "-auto-approve"], arguments].concat())
    }

    /// `apply`, which has to succeed.
    ///
    /// # Errors
    /// With the diagnostics when it fails.
    pub fn apply(&self) -> Result<Outcome> {
        self.apply_with(&[])?.succeeds()
    }

    /// `destroy`, which has to succeed.
    ///
    /// # Errors
    /// With the diagnostics when it fails.
    pub fn destroy(&self) -> Result<Outcome> {
        self.run(&["destroy", "-json", "-auto-approve"])?.succeeds()
    }

    /// `plan` with more arguments, which has to succeed.
    ///
    /// # Errors
    /// With the diagnostics when it fails.
    pub fn plan_with(&self, arguments: &[&str]) -> Result<Plan> {
        self.run(&[&["plan", "-json", "-out=plan.bin"], arguments].concat())?.succeeds()?;
        Ok(Plan::parse(&self.document(&["show", "-json", "plan.bin"])?))
    }

    /// `plan`.
    ///
    /// # Errors
    /// With the diagnostics when it fails.
    pub fn plan(&self) -> Result<Plan> {
        self.plan_with(&[])
    }

    /// `apply` of what [`Workspace::plan`] planned last, as it was planned then.
    ///
    /// # Errors
    /// When it cannot be run; a failed apply is an [`Outcome`].
    pub fn apply_plan(&self) -> Result<Outcome> {
        self.run(&["apply", "-json", "plan.bin"])
    }

    /// `plan` of a configuration that has to be refused.
    ///
    /// # Errors
    /// When it is accepted.
    pub fn plan_fails(&self) -> Result<Vec<crate::Diagnostic>> {
        self.run(&["plan", "-json"])?.fails()
    }

    /// Plans without and with a refresh; both have to be empty.
    ///
    /// # Errors
    /// With the plan when something would change.
    pub fn converged(&self) -> Result<()> {
        for (how, arguments) in [("without refresh", &["-refresh=false"][..]), ("with refresh", &[])] {
            // Empty by its exit code: to read it is a run more.
            if !self.run(&[&["plan", "-json", "-detailed-exitcode"], arguments].concat())?.success {
                bail!("the plan {how} is not empty:\n{}", self.plan_with(arguments)?);
            }
        }
        Ok(())
    }

    /// `import ADDRESS ID`.
    ///
    /// # Errors
    /// When it cannot be run; a refused import is an [`Outcome`].
    pub fn import(&self, address: &str, id: &str) -> Result<Outcome> {
        // `import` has no JSON output in either program.
        self.run(&["import", "-no-color", address, id])
    }

    /// Forgets an object and imports it again, after which nothing is to be changed.
    ///
    /// # Errors
    /// When it cannot be imported; with the plan when something would change.
    pub fn import_again(&self, address: &str, id: &str) -> Result<()> {
        self.forget(address)?;
        self.import(address, id)?.succeeds()?;
        self.converged().context("after the import")
    }

    /// `state rm ADDRESS`: forgets the object and leaves it be.
    ///
    /// # Errors
    /// When it fails.
    pub fn forget(&self, address: &str) -> Result<()> {
        self.run(&["state", "rm", address])?.succeeds().map(drop)
    }

    /// The values of a resource or data source in state; `None` when it is not there.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn state(&self, address: &str) -> Result<Option<Value>> {
        let document = self.document(&["show", "-json"])?;
        let resources =
            document["values"]["root_module"]["resources"].as_array().cloned().unwrap_or_default();
        let found = resources.into_iter().find(|resource| resource["address"] == address);
        Ok(found.map(|mut resource| resource["values"].take()))
    }

    /// The values of a resource that has to be in state.
    ///
    /// # Errors
    /// When it is not.
    pub fn resource(&self, address: &str) -> Result<Value> {
        self.state(address)?.with_context(|| format!("{address} is not in state"))
    }

    /// One attribute of a resource in state, which has to be a string.
    ///
    /// # Errors
    /// When it is not.
    pub fn text(&self, address: &str, attribute: &str) -> Result<String> {
        match self.resource(address)?[attribute].take() {
            Value::String(text) => Ok(text),
            other => bail!("{address}.{attribute} is {other}, not a string"),
        }
    }

    /// An output's value.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn output(&self, name: &str) -> Result<Value> {
        self.document(&["output", "-json", name])
    }

    /// The guest of a `sindri_vm` in state.
    ///
    /// # Errors
    /// When it has no SSH address.
    pub fn guest(&self, address: &str) -> Result<Guest> {
        Guest::of(&self.resource(address)?)
    }

    /// Whether a text is anywhere in the state file: for secrets.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn state_contains(&self, text: &str) -> Result<bool> {
        let state = fs::read_to_string(self.path().join("terraform.tfstate")).context("reading the state")?;
        Ok(state.contains(text))
    }

    fn document(&self, arguments: &[&str]) -> Result<Value> {
        let outcome = self.run(arguments)?.succeeds()?;
        serde_json::from_str(&outcome.stdout).with_context(|| format!("{} printed no JSON", outcome.command))
    }
}

/// A scenario that failed midway may have left a guest running, which must not outlive it.
impl Drop for Workspace {
    fn drop(&mut self) {
        let state = fs::read_to_string(self.path().join("terraform.tfstate")).unwrap_or_default();
        if state.contains("\"instances\"") {
            let _ = self.destroy();
        }
    }
}

/// The settings under which a program takes the provider from this folder.
fn overrides(provider: &Path) -> String {
    let provider = provider.to_string_lossy();
    format!(
        "provider_installation {{\n  dev_overrides {{\n    \"sindri/sindri\" = {provider:?}\n  }}\n  direct {{}}\n}}\n"
    )
}

fn copy(source: &Path, target: &Path) -> Result<()> {
    for entry in fs::read_dir(source).with_context(|| format!("listing {}", source.display()))? {
        let entry = entry?;
        let (from, to) = (entry.path(), target.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            // A developer's own run of an example leaves these beside it.
            if ![".terraform", ".work"].contains(&entry.file_name().to_string_lossy().as_ref()) {
                fs::create_dir(&to)?;
                copy(&from, &to)?;
            }
        } else if !entry.file_name().to_string_lossy().contains("tfstate") {
            fs::copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
        }
    }
    Ok(())
}
