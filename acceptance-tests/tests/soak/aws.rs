//! Builds on AWS that end at random moments, beside one that goes on all the time on another computer.

use std::time::{Duration, Instant};

use acceptance_tests::account::{
    Account, HOLD, IMAGE, Inventory, PATIENCE, images, kill_with_supervisor, log, says, switch_off,
};
use acceptance_tests::{Cli, Host, Running, Workspace, within};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

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
    /// The same twice: the host ends at once.
    Twice,
    /// All its processes end, and `data_dir` is gone.
    Computer,
}

const ENDS: [End; 4] = [End::Provider, End::Both, End::Interrupt, End::Computer];

/// How long after an interrupt there is nothing any more.
const AFTER_AN_INTERRUPT: Duration = Duration::from_secs(60);

/// Of twenty-five interrupts, twenty are double.
fn end(number: u32) -> End {
    match ENDS[number as usize % ENDS.len()] {
        End::Interrupt if number / 4 % 5 != 4 => End::Twice,
        end => end,
    }
}

#[test]
fn a_hundred_builds_on_aws_end_early() -> Result<()> {
    let account = Account::new()?;
    let length = undisturbed(&account)?;
    let elsewhere = Elsewhere::begin(&account)?;
    let mut slowest = Duration::ZERO;
    for number in 0..share(100) {
        let end = end(number);
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

/// A change of an image that is there: what its variables get, and how many images there are then.
type Change = (&'static str, fn() -> Value, usize);

/// The moments are spread over the length of each change.
#[test]
fn changes_of_images_on_aws_end_early() -> Result<()> {
    let account = Account::new()?;
    // As long as EC2 might, seen from how long the rest takes.
    account.moto.images_take(Duration::from_secs(3), None)?;
    let changes: [Change; 3] = [
        ("a copy", || json!({ "ami_regions": ["eu-central-1"] }), 2),
        ("sharing", || json!({ "ami_regions": ["eu-central-1"], "accounts": ["111111111111"] }), 2),
        ("a look before everybody may have it", || json!({ "public": true }), 1),
    ];
    for (name, change, count) in changes {
        let mut length = Duration::ZERO;
        for number in 0..=share(30) {
            let host = Host::new()?;
            let (end, moment) = (ENDS[number as usize % 2], moment(number, length));
            // The first one tells how long it takes.
            let end = (number > 0).then_some((end, moment));
            let took = changed(&account, &host, number, change(), (end, count))
                .with_context(|| format!("{name}, round {number}, {end:?}, whose log is:\n{}", log(&host)))?;
            length = length.max(took);
            eprintln!("{name}: round {number}: {end:?} of {length:?}");
        }
    }
    Ok(())
}

/// Returns how long the change took, when nobody disturbed it.
fn changed(
    account: &Account,
    host: &Host,
    number: u32,
    change: Value,
    (end, count): (Option<(End, Duration)>, usize),
) -> Result<Duration> {
    account.moto.images_take(Duration::ZERO, None)?;
    let (workspace, mut variables, _) = account.found(host, &format!("changed-{number}"))?;
    account.moto.images_take(Duration::from_secs(3), None)?;
    if let (Some(all), Value::Object(change)) = (variables.as_object_mut(), change) {
        all.extend(change);
    }
    account.variables(&workspace, variables)?;
    let began = Instant::now();
    disturb(host, workspace.start_apply()?, end)?;
    let took = if end.is_none() { began.elapsed() } else { Duration::ZERO };
    workspace.apply().context("the next apply")?;
    workspace.converged()?;
    within(PATIENCE, || {
        ensure!(account.more()? == images(count), "the next apply left {:?}", account.more()?);
        host.inventory()?.ensure_empty()
    })?;
    let destroyed = workspace.destroy()?;
    ensure!(destroyed.warnings().is_empty(), "{destroyed}");
    account.ensure_as_before()?;
    Ok(took)
}

/// The moments are spread over the check of the finished image.
#[test]
fn checks_of_finished_images_on_aws_end_early() -> Result<()> {
    let account = Account::new()?;
    let mut length = Duration::ZERO;
    for number in 0..=share(30) {
        let host = Host::new()?;
        let (end, moment) = (ENDS[number as usize % 2], moment(number, length));
        let took = checked(&account, &host, number, (number > 0).then_some((end, moment)));
        let took = took.with_context(|| {
            format!("round {number}, {end:?} {moment:?} into the check, whose log is:\n{}", log(&host))
        })?;
        length = length.max(took);
        eprintln!("round {number}: {end:?}, {moment:?} into {length:?}");
    }
    Ok(())
}

/// Returns how long the check took, when nobody disturbed it.
fn checked(account: &Account, host: &Host, number: u32, end: Option<(End, Duration)>) -> Result<Duration> {
    let marker = format!("checked-{number}");
    let check = json!({ "name": "the marker", "command": format!("grep -qx {marker} /srv/marker") });
    let variables = json!({ "marker": marker, "verify": [check], "verify_boot": true });
    let workspace = account.workspace(host, Cli::Tofu, variables)?;
    let mut running = workspace.start_apply()?;
    says(host, &mut running, "Launching a machine from")?;
    let began = Instant::now();
    disturb(host, running, end)?;
    let took = if end.is_none() { began.elapsed() } else { Duration::ZERO };
    workspace.apply().context("the next apply")?;
    workspace.converged()?;
    within(PATIENCE, || {
        ensure!(account.more()? == images(1), "the next apply left {:?}", account.more()?);
        host.inventory()?.ensure_empty()
    })?;
    workspace.destroy()?;
    account.ensure_as_before()?;
    Ok(took)
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
    let asked = Instant::now() + moment;
    disturb(host, workspace.start_apply()?, Some((end, moment)))?;
    if matches!(end, End::Interrupt | End::Twice) {
        interrupted(account, elsewhere, host, &workspace, asked + AFTER_AN_INTERRUPT)?;
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

/// In time there is but the image that was complete before, which state has or the journal.
fn interrupted(
    account: &Account,
    elsewhere: &Elsewhere,
    host: &Host,
    workspace: &Workspace,
    limit: Instant,
) -> Result<()> {
    within(limit.saturating_duration_since(Instant::now()), || {
        let mut more = account.more_than(&elsewhere.inventory)?;
        if workspace.state(IMAGE)?.is_some()
            || host.data_dir().join("journal").read_dir().is_ok_and(|mut it| it.next().is_some())
        {
            for kind in ["images", "snapshots"] {
                let count = more.remove(kind).unwrap_or_default();
                ensure!(count <= 2, "{count} {kind}");
            }
        }
        ensure!(more.is_empty(), "after an interrupt there are {more:?}");
        let processes = host.inventory()?.processes;
        ensure!(processes.is_empty(), "after an interrupt there run {processes:?}");
        Ok(())
    })
}

/// Ends an apply at its moment, or waits for its own end.
fn disturb(host: &Host, mut running: Running, end: Option<(End, Duration)>) -> Result<()> {
    let Some((end, moment)) = end else {
        return running.wait(Duration::from_secs(300))?.succeeds().map(drop);
    };
    std::thread::sleep(moment);
    if running.has_ended()? {
        running.wait(PATIENCE)?.succeeds().map(drop)
    } else {
        early(host, running, end)
    }
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
        End::Interrupt | End::Twice => {
            let interrupted = running.interrupt();
            if matches!(end, End::Twice) {
                std::thread::sleep(Duration::from_millis(500));
                // It may have ended meanwhile.
                let _ = running.interrupt();
            }
            let outcome = running.wait(PATIENCE)?;
            if outcome.success { Ok(()) } else { interrupted }
        }
        End::Computer => switch_off(host, running),
    }
}
