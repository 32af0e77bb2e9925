//! From the start of the process to its handshake line, to its schema, and to the schema in OpenTofu's hands.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use super::contestant::{Contestant, Contestants};
use super::grpc;
use super::host::Host;
use super::measure::{Row, medians, seconds};

const TIMES: usize = 15;
/// Of what takes a few milliseconds.
const OFTEN: usize = 101;

pub(crate) fn run(contestants: &Contestants) -> Result<Vec<Row>> {
    let handshake = |binary: &Path| milliseconds(|| Plugin::start(binary));
    let (ours, other) =
        medians(OFTEN, || handshake(&contestants.ours.binary), || handshake(&contestants.peer.binary))?;
    let (unit, aim) = ("ms", "≤ 0.30×");
    let mut rows =
        vec![Row { name: "start to handshake, a bare process off".into(), ours, other, unit, aim }];

    let schema = |binary: &Path| {
        milliseconds(|| {
            let plugin = Plugin::start(binary)?;
            grpc::call(plugin.connect()?, "/tfplugin6.Provider/GetProviderSchema")?;
            Ok(plugin)
        })
    };
    let (ours, other) =
        medians(OFTEN, || schema(&contestants.ours.binary), || schema(&contestants.peer.binary))?;
    rows.push(Row { name: "start to schema, a bare process off".into(), ours, other, unit, aim });

    // What OpenTofu itself does to read the schema and to print it is the same for both, too, and cannot be taken off.
    let bare = contestants.workspace(&contestants.peer, "")?;
    bare.run(&["version"])?;
    let schema = |contestant: &Contestant| {
        let workspace = contestants.workspace(contestant, "")?;
        let host = seconds(|| bare.run(&["version"]).map(drop))?;
        Ok(seconds(|| workspace.run(&["providers", "schema", "-json"]).map(drop))? - host)
    };
    let (ours, other) = medians(TIMES, || schema(&contestants.ours), || schema(&contestants.peer))?;
    rows.push(Row {
        name: "schema printed, OpenTofu's own start off".into(),
        ours,
        other,
        unit: "s",
        aim: "",
    });
    Ok(rows)
}

/// How long something takes with a provider, whose end is not counted. What the operating system takes for any process
/// is the limit, not a part of it: it is measured beside, and taken off.
fn milliseconds(what: impl FnOnce() -> Result<Plugin>) -> Result<f64> {
    let bare = seconds(|| Command::new("true").status().map(drop).context("starting true"))?;
    let start = Instant::now();
    let plugin = what()?;
    let took = start.elapsed();
    drop(plugin);
    Ok((took.as_secs_f64() - bare) * 1e3)
}

/// A provider that has shaken hands and serves.
pub(crate) struct Plugin {
    process: Child,
    /// What it printed: where it listens, and its certificate.
    handshake: String,
}

impl Plugin {
    /// Starts it as a host does, and waits for its one line.
    pub(crate) fn start(binary: &Path) -> Result<Self> {
        let mut child = Command::new(binary)
            .env("TF_PLUGIN_MAGIC_COOKIE", "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2")
            .env("PLUGIN_PROTOCOL_VERSIONS", "6")
            .env("PLUGIN_CLIENT_CERT", &Host::get()?.pem)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        let stdout = child.stdout.take();
        let mut plugin = Plugin { process: child, handshake: String::new() };
        let stdout = stdout.context("a provider without standard output")?;
        BufReader::new(stdout).read_line(&mut plugin.handshake)?;
        anyhow::ensure!(!plugin.handshake.is_empty(), "{} said nothing for a handshake", binary.display());
        Ok(plugin)
    }

    fn connect(&self) -> Result<impl Read + Write + use<>> {
        Host::get()?.connect(&self.handshake)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
