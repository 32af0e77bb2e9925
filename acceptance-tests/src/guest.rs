//! A shell in a guest, through the `ssh` that a user has.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Where a VM's SSH server is, and the key to it.
#[derive(Clone, Debug)]
pub struct Guest {
    host: String,
    port: u64,
    user: String,
    key: PathBuf,
}

impl Guest {
    /// From the values of a `sindri_vm` in state.
    ///
    /// # Errors
    /// When an attribute is missing.
    pub fn of(vm: &Value) -> Result<Self> {
        let text = |value: &Value, name: &str| {
            value.as_str().map(str::to_owned).with_context(|| format!("{name} is {value}, not a string"))
        };
        // `ssh -o … -p PORT USER@HOST`: the user is nowhere else when it is the image's own.
        let command = text(&vm["ssh_command"], "ssh_command")?;
        let user =
            command.split_whitespace().find_map(|word| word.split_once('@')).map(|(user, _)| user.to_owned());
        Ok(Guest {
            host: text(&vm["ssh_host"], "ssh_host")?,
            port: vm["ssh_port"].as_u64().context("ssh_port is not a number")?,
            user: user.with_context(|| format!("no user in {command:?}"))?,
            key: text(&vm["ssh_private_key_path"], "ssh_private_key_path")?.into(),
        })
    }

    /// Host, port, user and key: what else may reach it by.
    pub fn login(&self) -> (&str, u64, &str, &Path) {
        (&self.host, self.port, &self.user, &self.key)
    }

    /// Another key than the VM's own.
    pub fn with_key(mut self, key: PathBuf) -> Self {
        self.key = key;
        self
    }

    /// Runs a command in the guest's shell and returns what it printed.
    ///
    /// # Errors
    /// When the connection or the command fails: with its standard error.
    pub fn run(&self, command: &str) -> Result<String> {
        let output = Command::new("ssh")
            .args(["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
            .args([
                "-o",
                "IdentitiesOnly=yes",
                "-o",
                "BatchMode=yes",
                "-o",
                "ConnectTimeout=60",
                "-o",
                "ServerAliveInterval=60",
                "-o",
                "LogLevel=ERROR",
            ])
            .arg("-i")
            .arg(&self.key)
            .args(["-p", &self.port.to_string(), "-l", &self.user, &self.host, command])
            .stdin(Stdio::null())
            .output()
            .context("starting ssh")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "in the guest, {command:?} ended with {}: {errors}", output.status);
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }
}
