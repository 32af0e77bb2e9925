//! A run of `tofu` or `terraform` that has not ended: for signals, kills and what runs beside it.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::Outcome;

/// A process of its own group, with its output collected as it comes.
#[derive(Debug)]
pub struct Running {
    child: Child,
    command: String,
    started: Instant,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    pub(crate) fn start(mut command: Command, name: String) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().with_context(|| format!("starting {name}"))?;
        let stdout = Some(collect(child.stdout.take()));
        let stderr = Some(collect(child.stderr.take()));
        Ok(Running { child, command: name, started: Instant::now(), stdout, stderr })
    }

    /// Ctrl-C in a terminal: every process of the group gets SIGINT.
    ///
    /// # Errors
    /// When there is no such group any more.
    pub fn interrupt(&self) -> Result<()> {
        kill_process_group(self.pid()?, Signal::INT).context("sending SIGINT")
    }

    /// kill -9 of the host program alone; the provider is left without a parent.
    ///
    /// # Errors
    /// When it has ended.
    pub fn kill(&self) -> Result<()> {
        kill_process(self.pid()?, Signal::KILL).context("sending SIGKILL")
    }

    /// kill -9 of the provider that this host started. Waits up to ten seconds for there to be one.
    ///
    /// # Errors
    /// When no provider process shows up.
    pub fn kill_provider(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if let Some(pid) = self.provider_pid() {
                return kill_process(pid, Signal::KILL).context("killing the provider");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("{} started no provider", self.command)
    }

    /// The provider process that is a child of this run, when there is one.
    pub fn provider_pid(&self) -> Option<Pid> {
        let host = self.child.id().to_string();
        let children =
            fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        children.filter(|pid| pid.parse::<i32>().is_ok()).find_map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let (name, rest) = stat.rsplit_once(')')?;
            let parent = rest.split_whitespace().nth(1)?;
            // The kernel cuts a process's name to 15 bytes.
            (parent == host && name.contains("(terraform-provi"))
                .then(|| pid.parse().ok().and_then(Pid::from_raw))?
        })
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// When it does not end in time: it is stopped then.
    pub fn wait(mut self, limit: Duration) -> Result<Outcome> {
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                bail!("{} did not end within {limit:?}", self.command);
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let elapsed = self.started.elapsed();
        let collected =
            |stream: Option<JoinHandle<Vec<u8>>>| stream.and_then(|one| one.join().ok()).unwrap_or_default();
        let (stdout, stderr) = (collected(self.stdout.take()), collected(self.stderr.take()));
        Ok(Outcome::parse(self.command.clone(), &Output { status, stdout, stderr }, elapsed))
    }

    fn pid(&self) -> Result<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process without an id")
    }
}

/// A scenario that fails midway leaves nothing running: the provider gets the chance to clean up first.
impl Drop for Running {
    fn drop(&mut self) {
        let Ok(pid) = self.pid() else { return };
        for (signal, patience) in [(Signal::INT, 30), (Signal::KILL, 5)] {
            // An error means that there is nothing left to wait for.
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            let _ = kill_process_group(pid, signal);
            let deadline = Instant::now() + Duration::from_secs(patience);
            while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

fn collect(stream: Option<impl std::io::Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // What arrived before a broken pipe still counts.
            let _ = stream.read_to_end(&mut bytes);
        }
        bytes
    })
}
