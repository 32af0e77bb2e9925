//! Checks of a finished AMI (`verify_boot`): in a machine that is launched from it and terminated. An image without checks
//! is known to boot afterwards, and to let somebody in.
//!
//! The machine has the build's tags from its first moment, and the build is in the journal: one that is killed here is
//! swept as one that is killed in its builder.
//!
//! An image that passed is not lost with its machine: it is accepted first, in the journal, too, and then the machine is
//! ended. When that fails, the machine is left to the journal.

mod launch;
mod login;

use std::time::Duration;

use aws_sdk_ec2::types::Image as Ami;

use self::login::as_root;
use super::access::Access;
use super::engine::{AWAIT, PATIENCE};
use super::{BuildError, Work};
use crate::backends::aws::AwsError;
use crate::backends::aws::vm::{VmError, status};
use crate::backends::aws::waiting;
use crate::domain::causes;
use crate::domain::{Check, Environment};
use crate::process::{Finished, Limits};
use crate::provision::{self, STARTED};
use crate::ssh::{Exec, Input, Session, SshError};

/// How long AWS may take to end the machine. What it costs ends when that begins.
const ENDING: Duration = Duration::from_secs(5 * 60);
/// How often a connection that breaks is made anew: the network may fail, and the image's first boot may restart it
/// (`power_state` of cloud-init).
const LOGINS: u32 = 3;
/// The first pause before a machine is ended again, whose end may or may not have been heard of.
const TERMINATE_AGAIN: Duration = Duration::from_secs(1);
/// The pause before, in which a machine that goes down does so.
const GOING_DOWN: Duration = Duration::from_secs(5);

/// Checks the finished image. Returns the machine, which is still to be ended.
///
/// # Errors
/// [`BuildError::Check`] for the first check that fails; whatever keeps a machine from the image from being worked with. All
/// but [`BuildError::Cancelled`] are [of the image](BuildError::is_of_the_image). What was launched is left to the journal then.
pub(super) async fn verify<'a>(
    work: &'a Work<'a>,
    access: &Access,
    ami: &Ami,
    checks: &[Check],
) -> Result<Machine<'a>, BuildError> {
    let verified = async {
        let machine = Machine::launch(work, access, ami).await?;
        machine.check(access, checks).await?;
        Ok(machine)
    };
    tokio::select! {
        biased;
        // Whatever is under way: what comes of it is found by its tags.
        () = work.cancel.cancelled() => Err(BuildError::Cancelled),
        verified = verified => verified,
    }
}

/// A machine from the image.
pub(super) struct Machine<'a> {
    work: &'a Work<'a>,
    image: String,
    id: String,
}

impl<'a> Machine<'a> {
    async fn launch(work: &'a Work<'a>, access: &Access, ami: &Ami) -> Result<Self, BuildError> {
        let image = ami.image_id().unwrap_or_default().to_owned();
        work.log.step(&format!("Launching a machine from {image} to check it"));
        let instance = launch::launch(work, access, ami).await?;
        let id = instance.instance_id().unwrap_or_default().to_owned();
        work.log.step(&format!("Machine {id} was launched"));
        Ok(Self { work, image, id })
    }

    /// Waits for its first boot, and runs the checks.
    async fn check(&self, access: &Access, checks: &[Check]) -> Result<(), BuildError> {
        let (mut passed, mut broken) = (0, 0);
        loop {
            match self.check_from(&mut passed, access, checks).await {
                Err(error) if error.is_lost() && broken < LOGINS => {
                    broken += 1;
                    self.work.log.step("The connection broke: logging in again");
                    tokio::time::sleep(GOING_DOWN).await;
                }
                checked => return checked,
            }
        }
    }

    /// Over one connection; the first checks have `passed` over others.
    async fn check_from(
        &self,
        passed: &mut usize,
        access: &Access,
        checks: &[Check],
    ) -> Result<(), BuildError> {
        let log = self.work.log;
        let session = self.log_in(access).await?;
        log.step("Waiting for the end of its first boot");
        let booted = self.run(&session, AWAIT).await.map_err(self.failed("wait for cloud-init in"))?;
        if booted.code != 0 {
            let (code, output) = (booted.code, booted.output);
            return Err(self.failed("boot")(VmError::CloudInit { code, output }));
        }
        self.run(&session, STARTED).await.map_err(self.failed("wait for the services of"))?;
        for check in checks.iter().skip(*passed) {
            log.step(&format!("Checking: {}", check.name));
            let finished = self.run(&session, &check.command).await;
            let finished = finished.map_err(|error| self.unchecked(check, error))?;
            provision::judge(check, &finished)?;
            *passed += 1;
        }
        Ok(())
    }

    /// Runs a command as root.
    async fn run(&self, session: &Session, command: &str) -> Result<Finished, SshError> {
        let command = as_root(&self.work.spec.builder.login.username, command);
        let none = Environment::default();
        let exec = Exec { command: &command, environment: &none, input: Input::Empty };
        let limits = Limits { cancel: self.work.cancel.clone(), timeout: Some(PATIENCE) };
        session.exec(&exec, Some(self.work.log), &limits).await
    }

    /// Ends it, and waits: the group is in use as long as it is there. Whether it is gone: the image does not depend on it,
    /// and when it is not, the journal must still have it.
    pub(super) async fn end(&self) -> bool {
        self.work.log.step(&format!("Terminating machine {}", self.id));
        let why = match tokio::time::timeout(ENDING, self.terminate()).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => causes(&error),
            Err(_) => format!("AWS did not end it within {ENDING:?}"),
        };
        self.work.log.step(&format!(
            "Machine {} is not ended yet: {why}\nThe next build ends it, or `terraform-provider-sindri sweep`",
            self.id
        ));
        tracing::warn!(
            machine = self.id,
            why,
            "a machine from the finished image costs money until it is ended"
        );
        false
    }

    async fn terminate(&self) -> Result<(), VmError> {
        let Work { region, cancel, .. } = self.work;
        let mut pause = TERMINATE_AGAIN;
        loop {
            let asked = region.ec2.terminate_instances().instance_ids(&self.id).send().await;
            match asked.map_err(|error| AwsError::of("TerminateInstances", error)) {
                Err(error) if error.is_ambiguous() => pause = waiting::wait(pause, cancel).await?,
                Err(error) if !error.is_gone() => return Err(error.into()),
                _ => return status::until_gone(region, &self.id, cancel).await,
            }
        }
    }

    /// For `map_err`: what could not be done with the image.
    fn failed<E: Into<VmError>>(&self, doing: &str) -> impl FnOnce(E) -> BuildError {
        let doing = format!("{doing} the finished image {}", self.image);
        move |error| BuildError::Unverified { doing, source: error.into() }
    }

    fn unchecked(&self, check: &Check, error: SshError) -> BuildError {
        BuildError::Unverified {
            doing: format!("run the check {:?} in the finished image {}", check.name, self.image),
            source: error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::aws::image::{Builder, Interface, Login};

    pub(super) fn builder() -> Builder {
        Builder {
            instance_type: "t3.large".into(),
            vpc_id: None,
            subnet_id: None,
            security_group_ids: Vec::new(),
            allowed_cidrs: Vec::new(),
            iam_instance_profile: None,
            associate_public_address: None,
            spot: false,
            login: Login {
                username: "ubuntu".into(),
                interface: Interface::Public,
                host: None,
                port: None,
                keypair_name: None,
                private_key_path: None,
                bastion: None,
            },
        }
    }

    #[test]
    fn only_a_connection_that_broke_is_made_anew() {
        let error = |source| BuildError::Unverified { doing: String::new(), source };
        let limit = Duration::from_secs(1);
        for (source, expected) in [
            (VmError::Ssh(SshError::Lost(russh::Error::Disconnect)), true),
            (VmError::Ssh(SshError::Timeout { limit }), false),
            (VmError::CloudInit { code: 1, output: String::new() }, false),
        ] {
            let error = error(source);
            assert_eq!(error.is_lost(), expected, "{error:?}");
        }
    }
}
