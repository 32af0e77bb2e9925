//! From the start of the process to its handshake line, and to the schema in OpenTofu's hands.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::contestant::{Contestant, Contestants};
use super::measure::{Row, medians, seconds};

const TIMES: usize = 15;

pub(crate) fn run(contestants: &Contestants) -> Result<Vec<Row>> {
    // What the operating system takes for any process is the limit, not a part of either.
    let bare = || seconds(|| Command::new("true").status().map(drop).context("starting true"));
    let handshake = |binary: &Path| Ok(seconds(|| Plugin::start(binary).map(drop))? - bare()?);
    let (ours, other) =
        medians(TIMES, || handshake(&contestants.ours.binary), || handshake(&contestants.peer.binary))?;
    let aim = "≤ 0.30×";
    let mut rows =
        vec![Row { name: "start to handshake, a bare process off".into(), ours, other, unit: "s", aim }];

    // OpenTofu's own start is the same for both, and not ours to improve.
    let bare = contestants.workspace(&contestants.peer, "")?;
    bare.run(&["version"])?;
    let schema = |contestant: &Contestant| {
        let workspace = contestants.workspace(contestant, "")?;
        let host = seconds(|| bare.run(&["version"]).map(drop))?;
        Ok(seconds(|| workspace.run(&["providers", "schema", "-json"]).map(drop))? - host)
    };
    let (ours, other) = medians(TIMES, || schema(&contestants.ours), || schema(&contestants.peer))?;
    rows.push(Row { name: "start to schema, OpenTofu's own start off".into(), ours, other, unit: "s", aim });
    Ok(rows)
}

/// A provider that has shaken hands and serves.
pub(crate) struct Plugin(Child);

impl Plugin {
    /// Starts it as a host would, without TLS, and waits for its one line.
    pub(crate) fn start(binary: &Path) -> Result<Self> {
        let mut child = Command::new(binary)
            .env("TF_PLUGIN_MAGIC_COOKIE", "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2")
            .env("PLUGIN_PROTOCOL_VERSIONS", "6")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        let stdout = child.stdout.take();
        let plugin = Plugin(child);
        let mut line = String::new();
        BufReader::new(stdout.context("a provider without standard output")?).read_line(&mut line)?;
        ensure!(line.starts_with("1|6|"), "{} said {line:?} for a handshake", binary.display());
        Ok(plugin)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
