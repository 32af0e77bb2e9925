//! What an idle provider holds in memory.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::contestant::Contestants;
use super::measure::{Row, medians};
use super::start::Plugin;

pub(crate) fn run(contestants: &Contestants) -> Result<Vec<Row>> {
    let (ours, other) =
        medians(5, || resident(&contestants.ours.binary), || resident(&contestants.peer.binary))?;
    Ok(vec![Row { name: "idle memory, against Go".into(), ours, other, unit: "MiB", aim: "≤ 0.75×" }])
}

/// Resident memory half a second after the handshake, in MiB.
fn resident(binary: &Path) -> Result<f64> {
    let plugin = Plugin::start(binary)?;
    std::thread::sleep(Duration::from_millis(500));
    let status = std::fs::read_to_string(format!("/proc/{}/status", plugin.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS is not a number")?;
    Ok(kib / 1024.0)
}
