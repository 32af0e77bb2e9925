//! Builds on AWS that end at random moments, beside one that goes on all the time on another computer.

use std::time::{Duration, Instant};

use acceptance_tests::account::{
    Account, HOLD, IMAGE, Inventory, PATIENCE, images, kill_with_supervisor, log, switch_off,
};
use acceptance_tests::{Cli, Host, Running, Workspace, within};
use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{moment, share};

/// How a build ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// kill -9 of the provider.
    Provider,
    /// kill -9 of the provider and its supervisors.
    Both,
    /// SIGINT, as by Ctrl-C.
    Interrupt,
    /// All its processes end, and `data_dir` is gone.
    Computer,
}

const ENDS: [End; 4] = [End::Provider, End::Both, End::Interrupt, End::Computer];

#[test]
fn a_hundred_builds_on_aws_end_early() -> Result<()> {
    let account = Account::new()?;
    let length = undisturbed(&account)?;
    let elsewhere = Elsewhere::begin(&account)?;
    let mut slowest = Duration::ZERO;
    for number in 0..share(100) {
        let end = ENDS[number as usize % ENDS.len()];
        let moment = moment(number, length);
        let began = Instant::now();
        let host = Host::new()?;
        round(&account, &elsewhere, &host, number, (end, moment)).with_context(|| {
            format!("round {number}, {end:?} {moment:?} into the build, whose log is:\n{}", log(&host))
        })?;
        slowest = slowest.max(began.elapsed());
        eprintln!("round {number}: {end:?}, {moment:?} into {length:?}, took {:?}", began.elapsed());
    }
    eprintln!("{} rounds, of which the longest took {slowest:?}", share(100));
    elsewhere.end(&account)
}

/// How long an apply takes that nobody disturbs.
fn undisturbed(account: &Account) -> Result<Duration> {
    let host = Host::new()?;
    let workspace = workspace(account, &host, "undisturbed")?;
    let began = Instant::now();
    workspace.apply()?;
    let length = began.elapsed();
    workspace.destroy()?;
    account.ensure_as_before()?;
    Ok(length)
}

/// With a check in a machine of its own, and a copy in another region: the moments are spread over all of it.
fn workspace(account: &Account, host: &Host, marker: &str) -> Result<Workspace> {
    let check = json!({ "name": "the marker", "command": format!("grep -qx {marker} /srv/marker") });
    let variables =
        json!({ "marker": marker, "verify": [check], "verify_boot": true, "ami_regions": ["eu-central-1"] });
    account.workspace(host, Cli::Tofu, variables)
}

/// A build on another computer.
struct Elsewhere {
    host: Host,
    workspace: Workspace,
    running: Running,
    inventory: Inventory,
}

impl Elsewhere {
    fn begin(account: &Account) -> Result<Self> {
        let host = Host::new()?;
        let command = format!("echo goes on; while test -e {HOLD}; do sleep 1; done");
        let more = json!({ "marker": "elsewhere", "command": command, "create_timeout": "24h" });
        let (workspace, running) = account.amid(&host, more, "image: goes on")?;
        Ok(Self { host, workspace, running, inventory: account.moto.inventory()? })
    }

    fn ensure_alone(&self, account: &Account) -> Result<()> {
        let now = account.moto.inventory()?;
        ensure!(now == self.inventory, "in EC2 is {now:?}, and was {:?}", self.inventory);
        Ok(())
    }

    /// It comes to its end, and nothing of it is left when it is destroyed.
    fn end(self, account: &Account) -> Result<()> {
        self.ensure_alone(account)?;
        account.release()?;
        self.running.wait(Duration::from_secs(600))?.succeeds().context("the build elsewhere")?;
        ensure!(account.more()? == images(1), "{:?}", account.more()?);
        self.workspace.destroy()?;
        account.ensure_as_before()?;
        self.host.inventory()?.ensure_empty()
    }
}

fn round(
    account: &Account,
    elsewhere: &Elsewhere,
    host: &Host,
    number: u32,
    (end, moment): (End, Duration),
) -> Result<()> {
    let workspace = workspace(account, host, &format!("round-{number}"))?;
    let mut running = workspace.start_apply()?;
    std::thread::sleep(moment);
    if running.has_ended()? {
        running.wait(PATIENCE)?.succeeds()?;
    } else {
        early(host, running, end)?;
    }
    if matches!(end, End::Computer) {
        if host.data_dir().exists() {
            std::fs::remove_dir_all(host.data_dir())?;
        }
        // Nobody waits for hours here.
        account.run_out(&elsewhere.inventory)?;
        account.lapse()?;
    }
    workspace.apply().context("the next apply")?;
    workspace.converged()?;
    // A killed provider's supervisor may still be at work.
    within(PATIENCE, || {
        let one = account.more_than(&elsewhere.inventory)?;
        ensure!(one == images(2), "the next apply left {one:?}");
        host.inventory()?.ensure_empty()
    })?;
    workspace.destroy()?;
    elsewhere.ensure_alone(account)?;
    ensure!(workspace.state(IMAGE)?.is_none(), "the image is in state");
    host.inventory()?.ensure_empty()
}

/// Ends an apply, which may end by itself in the same moment.
fn early(host: &Host, running: Running, end: End) -> Result<()> {
    match end {
        End::Provider => {
            let killed = running.kill_provider();
            let outcome = running.wait(PATIENCE)?;
            if outcome.success { Ok(()) } else { killed }
        }
        End::Both => kill_with_supervisor(host, running).map(drop),
        End::Interrupt => {
            let interrupted = running.interrupt();
            let outcome = running.wait(PATIENCE)?;
            if outcome.success { Ok(()) } else { interrupted }
        }
        End::Computer => switch_off(host, running),
    }
}
