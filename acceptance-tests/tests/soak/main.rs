//! The same promises as in `scenarios/cancel.rs`, `scenarios/image_cache.rs`, `scenarios/aws_build.rs` and
//! `scenarios/aws_vm.rs`, by the dozen and at random moments. Takes hours; `make soak` runs it, `make soak SHARE=10` a tenth of
//! the rounds.
#![cfg(feature = "soak")]

mod aws;
mod faults;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use acceptance_tests::{Cli, Host, Workspace};
use anyhow::{Context, Result, ensure};

const IMAGE: &str = "sindri_image.it";

/// A moment within something that takes this long, another in each run. Printed, so that a failure can be told apart.
fn moment(round: u32, length: Duration) -> Duration {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
    let dice = (nanos / 1000).wrapping_mul(2_654_435_761).wrapping_add(round.wrapping_mul(977)) % 1000;
    length * dice / 1000
}

/// How long an apply takes that nobody disturbs.
fn undisturbed() -> Result<Duration> {
    let host = Host::new()?;
    let workspace = host.workspace(Cli::Tofu, "image")?;
    workspace.apply()?;
    workspace.destroy()?;
    let start = Instant::now();
    workspace.apply()?;
    let length = start.elapsed();
    workspace.destroy()?;
    Ok(length)
}

/// So many of these rounds as the environment asks for, in per cent.
fn share(rounds: u32) -> u32 {
    let share = std::env::var("SINDRI_SOAK_SHARE").ok().and_then(|text| text.parse().ok());
    (rounds * share.unwrap_or(100)).div_ceil(100)
}

fn repeat(times: u32, round: impl Fn(&Host, &Workspace, Duration) -> Result<()>) -> Result<()> {
    let length = undisturbed()?;
    for number in 0..share(times) {
        let host = Host::new()?;
        let workspace = host.workspace(Cli::Tofu, "image")?;
        let moment = moment(number, length);
        eprintln!("round {number}: {moment:?} into {length:?}");
        round(&host, &workspace, moment)
            .with_context(|| format!("round {number}, {moment:?} into the build"))?;
        workspace.apply().with_context(|| format!("the apply after round {number}, {moment:?}"))?;
        workspace.converged()?;
        let inventory = host.inventory()?;
        ensure!(inventory.ids("images") == [workspace.text(IMAGE, "image_id")?], "{moment:?}:\n{inventory}");
        ensure!(inventory.processes.is_empty() && inventory.mounts.is_empty(), "{moment:?}:\n{inventory}");
        workspace.destroy()?;
        host.inventory()?.ensure_empty().with_context(|| format!("round {number}, {moment:?}"))?;
    }
    Ok(())
}

#[test]
fn a_hundred_killed_providers() -> Result<()> {
    repeat(100, |_, workspace, moment| {
        let mut running = workspace.start_apply()?;
        std::thread::sleep(moment);
        if !running.has_ended()? {
            // It may end between the look and the kill.
            let _ = running.kill_provider();
        }
        running.wait(Duration::from_secs(300)).map(drop)
    })
}

#[test]
fn fifty_killed_hosts() -> Result<()> {
    repeat(50, |_, workspace, moment| {
        let running = workspace.start_apply()?;
        std::thread::sleep(moment);
        let _ = running.kill();
        running.wait(Duration::from_secs(300))?;
        std::thread::sleep(Duration::from_secs(3));
        let _ = std::fs::remove_file(workspace.path().join(".terraform.tfstate.lock.info"));
        Ok(())
    })
}

#[test]
fn fifty_interrupts_of_which_twenty_are_double() -> Result<()> {
    repeat(50, |host, workspace, moment| {
        let running = workspace.start_apply()?;
        std::thread::sleep(moment);
        let _ = running.interrupt();
        if moment.as_millis() % 5 < 2 {
            std::thread::sleep(Duration::from_millis(500));
            let _ = running.interrupt();
        }
        if running.wait(Duration::from_secs(60))?.success {
            return Ok(());
        }
        for _ in 0..300 {
            if host.inventory()?.processes.is_empty() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        anyhow::bail!("a minute after the interrupt:\n{}", host.inventory()?)
    })
}

#[test]
fn eight_applies_at_once_twenty_times() -> Result<()> {
    for round in 0..share(20) {
        let host = Host::new()?;
        let workspaces = (0..8).map(|_| host.workspace(Cli::Tofu, "image")).collect::<Result<Vec<_>>>()?;
        let running = workspaces.iter().map(Workspace::start_apply).collect::<Result<Vec<_>>>()?;
        for one in running {
            one.wait(Duration::from_secs(900))?.succeeds().with_context(|| format!("round {round}"))?;
        }
        ensure!(host.inventory()?.ids("images").len() == 1, "round {round}:\n{}", host.inventory()?);
        for workspace in &workspaces {
            workspace.destroy()?;
        }
        host.inventory()?.ensure_empty().with_context(|| format!("round {round}"))?;
    }
    Ok(())
}
