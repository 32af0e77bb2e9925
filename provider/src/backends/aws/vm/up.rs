//! Waits until a machine can be worked with, and shows its console when that fails.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio_util::sync::CancellationToken;

use super::{Files, SSH_PORT, VmError};
use crate::backends::aws::region::Region;
use crate::domain::Vm;
use crate::domain::vm::host_key_alias;
use crate::domain::vm_spec::{VmSpec, WaitFor};
use crate::process::{Limits, tail};
use crate::ssh::{self, KnownHost, Login};

/// How long the console may take to be fetched when time is over already.
const CONSOLE: Duration = Duration::from_secs(15);

/// Waits for what is asked for. The overall time is the caller's to limit, by `cancel`.
pub(super) async fn wait(
    region: &Region,
    vm: &Vm,
    spec: &VmSpec,
    files: &Files,
    cancel: &CancellationToken,
) -> Result<(), VmError> {
    if spec.wait_for == WaitFor::None {
        return Ok(());
    }
    let host = spec.ssh.host.clone().or_else(|| vm.ssh_host.clone()).unwrap_or_default();
    let port = vm.login.as_ref().map_or(SSH_PORT, |login| login.port);
    let waited = tokio::select! {
        waited = reach(&host, port, vm, spec, cancel) => waited,
        () = cancel.cancelled() => {
            Err(VmError::NotUp { address: format!("{host} port {port}"), console: String::new() })
        }
    };
    let redactor = spec.redactor();
    match waited {
        Err(VmError::NotUp { address, .. }) => {
            let text = redactor.redact(&console(region, &vm.id).await);
            let mut console = ending(&text);
            if !text.is_empty() {
                match files.write_console(&text) {
                    Ok(()) => console.push_str(&format!("\nAll of it: {}", files.console().display())),
                    Err(error) => {
                        tracing::warn!(machine = vm.id, %error, "a machine's console is not kept");
                    }
                }
            }
            Err(VmError::NotUp { address, console })
        }
        Err(VmError::CloudInit { code, output }) => {
            Err(VmError::CloudInit { code, output: redactor.redact(&output) })
        }
        other => other,
    }
}

async fn reach(
    host: &str,
    port: u16,
    vm: &Vm,
    spec: &VmSpec,
    cancel: &CancellationToken,
) -> Result<(), VmError> {
    if spec.wait_for == WaitFor::Ssh {
        ssh::wait_for_banner(host, port).await;
        return Ok(());
    }
    let login = login(vm)?;
    let session = ssh::log_in(host, port, &login, &mut None).await?;
    let finished = ssh::wait_for_cloud_init(&session, &Limits::cancelled_by(cancel)).await?;
    match finished.code {
        0 | 2 => Ok(()),
        code => Err(VmError::CloudInit { code, output: finished.output }),
    }
}

/// How we log in ourselves.
fn login(vm: &Vm) -> Result<Login, VmError> {
    let missing = |path: PathBuf| VmError::File { path, source: std::io::ErrorKind::NotFound.into() };
    let login = vm.login.as_ref().ok_or_else(|| missing(PathBuf::new()))?;
    let key = login.private_key_path.as_ref().ok_or_else(|| missing("ssh.private_key_path".into()))?;
    Ok(Login {
        username: login.username.clone(),
        key: ssh::load(key)?,
        known_host: KnownHost {
            path: login.known_hosts_path.clone().unwrap_or_default(),
            alias: host_key_alias(&vm.id),
        },
    })
}

/// What the machine has printed so far; nothing when it cannot be had.
async fn console(region: &Region, id: &str) -> String {
    let asked = region.ec2.get_console_output().instance_id(id).send();
    let Ok(Ok(fetched)) = tokio::time::timeout(CONSOLE, asked).await else { return String::new() };
    let bytes = STANDARD.decode(fetched.output().unwrap_or_default().replace(['\r', '\n'], ""));
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

/// Nobody answered at this address: with the end of the machine's console.
pub(in crate::backends::aws) async fn not_up(region: &Region, id: &str, address: String) -> VmError {
    VmError::NotUp { address, console: ending(&console(region, id).await) }
}

/// The last lines for an error, with an introduction.
fn ending(console: &str) -> String {
    let text = tail::of_console(console);
    if text.is_empty() { text } else { format!("\nIts console ends with:\n{text}") }
}
