//! The way into the machine that a finished image is checked in: the builder's, by a login of ours.

use std::time::Duration;

use aws_sdk_ec2::types::{Instance, InstanceStateName};

use super::super::access::Access;
use super::super::engine::BOOT;
use super::super::{BuildError, Work, keep};
use super::Machine;
use crate::backends::aws::image::{Interface, Login as ImageLogin};
use crate::backends::aws::vm::{VmError, status, up};
use crate::process::BuildLog;
use crate::ssh::{self, KnownHost, Login, Session, quote};

/// For how many looks a machine that runs may be without its public address.
const ADDRESS_LOOKS: u32 = 5;

impl Machine<'_> {
    /// Waits until it runs, and until it lets us in.
    pub(super) async fn log_in(&self, access: &Access) -> Result<Session, BuildError> {
        let Work { region, dir, log, .. } = self.work;
        let login = &self.work.spec.builder.login;
        let running = self.running().await.map_err(self.failed("launch a machine from"))?;
        let known_host = KnownHost { path: dir.join("known_hosts"), alias: self.id.clone() };
        let key = ssh::load(&access.key_file).map_err(self.failed("log into"))?;
        let (host, port) = (keep::address(login, &running).unwrap_or_default(), login.port.unwrap_or(22));
        let login = Login { username: login.username.clone(), key, known_host };
        let mut last = None;
        let logging_in = ssh::log_in(host, port, &login, &mut last);
        if let Ok(session) = tokio::time::timeout(BOOT, logging_in).await {
            return session.map_err(self.failed("log into"));
        }
        let why = match last {
            Some(error) => VmError::Ssh(error),
            None => redacted(log, up::not_up(region, &self.id, format!("{host} port {port}")).await),
        };
        Err(self.failed("log into")(why))
    }

    /// Waits until it runs and has the address by which it is to be reached.
    async fn running(&self) -> Result<Instance, VmError> {
        let Work { region, cancel, .. } = self.work;
        let running = async {
            for look in 0.. {
                let running = status::until(region, &self.id, &InstanceStateName::Running, cancel).await?;
                if is_reachable(&self.work.spec.builder.login, &running) {
                    return Ok(running);
                }
                if look >= ADDRESS_LOOKS {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(no_address(&self.id))
        };
        match tokio::time::timeout(BOOT, running).await {
            Ok(running) => running,
            Err(_) => {
                let problem = format!("instance {} does not run after {BOOT:?}", self.id);
                Err(VmError::Refused { attribute: "aws.verify_boot", problem })
            }
        }
    }
}

/// Whether a machine has the address by which it is to be reached.
fn is_reachable(login: &ImageLogin, instance: &Instance) -> bool {
    let is_public = login.host.is_none() && login.interface == Interface::Public;
    !is_public || instance.public_ip_address().is_some_and(|address| !address.is_empty())
}

/// Nobody needs to wait for an answer of it.
fn no_address(id: &str) -> VmError {
    let problem = format!(
        "instance {id} has no public address, and is to be reached by one: set `associate_public_address = true`, or `subnet_id` to a subnet that gives one, or `ssh_interface` to \"private\""
    );
    VmError::Refused { attribute: "aws.associate_public_address", problem }
}

/// The console may show what the build was given as a secret.
fn redacted(log: &BuildLog, error: VmError) -> VmError {
    match error {
        VmError::NotUp { address, console } => VmError::NotUp { address, console: log.redact(&console) },
        other => other,
    }
}

/// Without a terminal nobody could give a password.
pub(super) fn as_root(username: &str, command: &str) -> String {
    if username == "root" {
        return command.to_owned();
    }
    format!("exec sudo -n /bin/sh -c {}", quote(command))
}

#[cfg(test)]
mod tests {
    use super::super::tests::builder;
    use super::*;
    use crate::process::{Redactor, Secret};

    #[test]
    fn a_machine_without_the_address_it_is_reached_by_is_not_waited_for() {
        let private = Instance::builder().private_ip_address("10.0.0.1");
        let public = private.clone().public_ip_address("203.0.113.7").build();
        let empty = private.clone().public_ip_address("").build();
        let private = private.build();
        for (interface, host, instance, expected) in [
            (Interface::Public, None, &public, true),
            (Interface::Public, None, &private, false),
            (Interface::Public, None, &empty, false),
            (Interface::Public, Some("forward.example"), &private, true),
            (Interface::Private, None, &private, true),
        ] {
            let mut login = builder().login;
            login.interface = interface;
            login.host = host.map(str::to_owned);
            assert_eq!(is_reachable(&login, instance), expected, "{host:?} {instance:?}");
        }
        let told = no_address("i-1").to_string();
        assert!(told.contains("i-1 has no public address") && told.contains("ssh_interface"), "{told}");
    }

    #[test]
    fn a_console_shows_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let redactor = Redactor::new([&Secret::new("hunter22")]);
        let log = BuildLog::create(dir.path(), "it", "1", redactor).unwrap();
        let console = "\nIts console ends with:\npassword: hunter22".to_owned();
        let error = redacted(&log, VmError::NotUp { address: "h port 22".into(), console });
        let told = error.to_string();
        assert!(told.contains("password: ") && !told.contains("hunter22"), "{told}");
    }

    #[test]
    fn a_shell_of_roots_has_the_command_whole() {
        let command = "echo \"it's\" $HOME\ntrue";
        assert_eq!(as_root("root", command), command);
        let told = as_root("ubuntu", command);
        assert_eq!(told, "exec sudo -n /bin/sh -c 'echo \"it'\\''s\" $HOME\ntrue'");
    }
}
