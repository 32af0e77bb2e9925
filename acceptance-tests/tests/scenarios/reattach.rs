//! A provider that a person has started, and to which hosts attach: how one debugs it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use acceptance_tests::{Host, Moto, Workspace, each_cli, within};
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

const IMAGE: &str = "sindri_image.it[0]";

/// The provider, started by hand, and where it says what it says. A scenario that fails leaves none.
struct Started(Child, BufReader<ChildStdout>);

impl Started {
    /// With what it says is to be set, where hosts run.
    fn new(workspace: &mut Workspace) -> Result<Self> {
        let mut command = workspace.provider_command(&["-debug"])?;
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let said = BufReader::new(child.stdout.take().context("no output")?);
        let mut started = Self(child, said);
        for line in started.1.by_ref().lines() {
            if let Some(value) = line?.trim().strip_prefix("TF_REATTACH_PROVIDERS=") {
                workspace.env("TF_REATTACH_PROVIDERS", value.trim_matches('\''));
                return Ok(started);
            }
        }
        anyhow::bail!("it does not say how to attach to it")
    }

    fn ensure_runs(&mut self) -> Result<()> {
        ensure!(self.0.try_wait()?.is_none(), "a host has ended it");
        Ok(())
    }

    /// Ctrl-C where it was started.
    fn interrupt(mut self) -> Result<()> {
        let pid = Pid::from_raw(self.0.id().cast_signed()).context("no process")?;
        kill_process(pid, Signal::INT)?;
        for _ in 0..300 {
            if let Some(status) = self.0.try_wait()? {
                ensure!(status.success(), "it ended with {status}");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        anyhow::bail!("it did not end")
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_provider_that_was_started_by_hand_serves_one_command_after_another() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let moto = Moto::start()?;
        let mut workspace = host.workspace(cli, "aws-image-settings")?;
        moto.serve(&mut workspace);
        let mut provider = Started::new(&mut workspace)?;
        // There is no other.
        workspace.write("cli.tfrc", "")?;
        let plan = workspace.plan()?;
        let key = plan.change(IMAGE).context("nothing planned")?.after["cache_key"].clone();
        provider.ensure_runs()?;
        // What somebody else builds meanwhile, the next command sees.
        let id = moto.register("us-west-2", "it-0", &[("sindri_key", key.as_str().context("no key")?)])?;
        workspace.apply()?;
        provider.ensure_runs()?;
        assert_eq!(workspace.text(IMAGE, "image_id")?, id);
        workspace.converged()?;
        workspace.variables(&json!({ "tags": { "team": "a" } }))?;
        workspace.apply()?;
        workspace.converged()?;
        workspace.destroy()?;
        provider.ensure_runs()?;
        provider.interrupt()?;
        let refused = workspace.plan_fails()?;
        ensure!(!refused.is_empty(), "planned without a provider");
        within(Duration::from_secs(10), || host.inventory()?.ensure_empty())?;
        moto.ensure_no_machines()
    })
}
