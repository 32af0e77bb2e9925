//! What a Ctrl-C or a kill -9 in the middle of a build leaves: nothing that matters.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use acceptance_tests::{Cli, Host, Running, Workspace, each_cli, within};
use anyhow::{Context, Result, ensure};
use rustix::fs::{FlockOperation, flock};
use serde_json::json;

const IMAGE: &str = "sindri_image.it";

/// An image whose step takes longer than anyone waits.
fn slow(workspace: &Workspace) -> Result<()> {
    workspace.variables(&json!({ "seconds": 600 }))
}

/// Until the step runs, which the log says.
fn wait_for_step(host: &Host) -> Result<()> {
    let log = host.data_dir().join("logs/latest-it.log");
    let deadline = Instant::now() + Duration::from_secs(300);
    while Instant::now() < deadline {
        if std::fs::read_to_string(&log).is_ok_and(|text| text.contains("Provisioning step 1")) {
            std::thread::sleep(Duration::from_millis(500));
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    anyhow::bail!("the step never ran: {}", std::fs::read_to_string(&log).unwrap_or_default())
}

/// Trees of builds in the shared cache that no process holds the lock of.
fn abandoned_trees() -> Result<Vec<PathBuf>> {
    let work = acceptance_tests::cache_home().join("sindri/trees/area/work");
    let mut abandoned = Vec::new();
    for entry in std::fs::read_dir(&work).with_context(|| format!("listing {}", work.display()))? {
        let path = entry?.path();
        // A build that ends while we look takes both with it.
        let Ok(lock) = std::fs::File::open(path.with_extension("lock")) else {
            abandoned.extend(path.exists().then_some(path));
            continue;
        };
        if flock(&lock, FlockOperation::NonBlockingLockShared).is_ok() && path.exists() {
            abandoned.push(path);
        }
    }
    Ok(abandoned)
}

/// Waits for what was started to be gone; detached helpers may take a moment.
fn ensure_settled(host: &Host, limit: Duration) -> Result<()> {
    within(limit, || {
        let (inventory, trees) = (host.inventory()?, abandoned_trees()?);
        ensure!(inventory.is_empty() && trees.is_empty(), "left behind:\n{inventory}{trees:?}");
        Ok(())
    })
}

/// An apply whose step runs.
fn amid_a_build(cli: Cli) -> Result<(Host, Workspace, Running)> {
    let host = Host::new()?;
    let workspace = host.workspace(cli, "image")?;
    slow(&workspace)?;
    let running = workspace.start_apply()?;
    wait_for_step(&host)?;
    Ok((host, workspace, running))
}

#[test]
fn an_interrupted_build_stops_within_seconds_and_leaves_nothing() -> Result<()> {
    each_cli(|cli| {
        let (host, _workspace, running) = amid_a_build(cli)?;
        running.interrupt()?;
        let asked = Instant::now();
        let outcome = running.wait(Duration::from_secs(60))?;
        ensure!(!outcome.success, "an interrupted apply passed for a success");
        ensure!(asked.elapsed() < Duration::from_secs(20), "it took {:?} to stop", asked.elapsed());
        ensure_settled(&host, Duration::from_secs(10))
    })
}

#[test]
fn an_apply_after_a_killed_provider_builds_and_cleans_up() -> Result<()> {
    each_cli(|cli| {
        let (host, workspace, running) = amid_a_build(cli)?;
        running.kill_provider()?;
        running.wait(Duration::from_secs(60))?.fails()?;
        after_the_crash(&host, &workspace)
    })
}

#[test]
fn an_apply_after_a_killed_host_builds_and_cleans_up() -> Result<()> {
    each_cli(|cli| {
        let (host, workspace, running) = amid_a_build(cli)?;
        running.kill()?;
        ensure!(!running.wait(Duration::from_secs(10))?.success, "killed, and a success");
        // The provider outlives its host for a moment; a user, too, takes a moment to come back.
        std::thread::sleep(Duration::from_secs(3));
        let _ = std::fs::remove_file(workspace.path().join(".terraform.tfstate.lock.info"));
        after_the_crash(&host, &workspace)
    })
}

/// The next apply must succeed, and leave one image and nothing of the killed build.
fn after_the_crash(host: &Host, workspace: &Workspace) -> Result<()> {
    workspace.variables(&json!({}))?;
    workspace.apply()?;
    workspace.converged()?;
    let inventory = host.inventory()?;
    assert_eq!(inventory.ids("images"), [workspace.text(IMAGE, "image_id")?], "{inventory}");
    assert_eq!(inventory.processes, Vec::<String>::new(), "{inventory}");
    assert_eq!(inventory.mounts, Vec::<String>::new(), "{inventory}");
    workspace.destroy()?;
    ensure_settled(host, Duration::from_secs(10))
}
