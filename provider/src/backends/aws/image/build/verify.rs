//! Checks of a finished AMI (`verify_boot`): in a machine that is launched from it and terminated. An image without checks
//! is known to boot afterwards, and to let somebody in.
//!
//! The machine has the build's tags from its first moment, and the build is in the journal: one that is killed here is
//! swept as one that is killed in its builder. It is let in by the same key and group. It never runs on spare capacity: an
//! image that is good is not to fail because a machine was taken away.

use std::time::Duration;

use aws_sdk_ec2::types::{Image as Ami, InstanceStateName};

use super::access::Access;
use super::engine::{AWAIT, BOOT, PATIENCE};
use super::{Build, BuildError, keep};
use crate::backends::aws::region::tag_filter;
use crate::backends::aws::vm::launch::{Launch, is_early};
use crate::backends::aws::vm::{AwsVmSpec, RootVolume, VmError, status, surroundings, up};
use crate::backends::aws::{AwsError, tags};
use crate::domain::{Check, Environment};
use crate::process::{Finished, Limits};
use crate::provision::{self, STARTED};
use crate::ssh::{self, Exec, Input, KnownHost, Login, Session, SshError, quote};

/// How long AWS may take to end the machine. What it costs ends when that begins.
const ENDING: Duration = Duration::from_secs(5 * 60);

/// Checks the finished image.
///
/// # Errors
/// [`BuildError::Check`] for the first check that fails; whatever keeps a machine from the image from being worked with.
/// What was launched is left to the journal then.
pub(super) async fn verify(build: &Build<'_>, access: &Access, ami: &Ami) -> Result<(), BuildError> {
    let verified = async {
        let machine = Machine::launch(build, access, ami).await?;
        machine.check(access).await?;
        machine.end().await
    };
    tokio::select! {
        biased;
        // Whatever is under way: what comes of it is found by its tags.
        () = build.request.cancel.cancelled() => Err(BuildError::Cancelled),
        verified = verified => verified,
    }
}

/// A machine from the image.
struct Machine<'a> {
    build: &'a Build<'a>,
    image: String,
    id: String,
}

impl<'a> Machine<'a> {
    async fn launch(build: &'a Build<'a>, access: &Access, ami: &Ami) -> Result<Self, BuildError> {
        let image = ami.image_id().unwrap_or_default().to_owned();
        build.log.step(&format!("Launching a machine from {image} to check it"));
        let spec = spec(build).await?;
        let (token, tags) = (build.id.to_string(), build.tags());
        let launch = Launch {
            spec: &spec,
            image: ami,
            token: &token,
            key_name: &access.key_name,
            groups: &access.groups,
            user_data: None,
            tags: &tags,
        };
        let by = tag_filter(tags::BUILD, [&token]);
        let own_group = build.spec.builder.security_group_ids.is_empty();
        let is_early = |error: &AwsError| is_early(error, own_group) || is_unknown_image(error);
        let launched = launch.run(build.region, by, is_early, &build.request.cancel).await;
        let instance = launched.map_err(|error| refused(&image, error))?;
        let id = instance.instance_id().unwrap_or_default().to_owned();
        build.log.step(&format!("Machine {id} was launched"));
        Ok(Self { build, image, id })
    }

    async fn check(&self, access: &Access) -> Result<(), BuildError> {
        let log = self.build.log;
        let session = self.log_in(access).await?;
        log.step("Waiting for the end of its first boot");
        let booted = self.run(&session, AWAIT).await.map_err(self.failed("wait for cloud-init in"))?;
        if booted.code != 0 {
            let (code, output) = (booted.code, booted.output);
            return Err(self.failed("boot")(VmError::CloudInit { code, output }));
        }
        self.run(&session, STARTED).await.map_err(self.failed("wait for the services of"))?;
        for check in &self.build.request.spec.checks {
            log.step(&format!("Checking: {}", check.name));
            let finished = self.run(&session, &check.command).await;
            let finished = finished.map_err(|error| self.unchecked(check, error))?;
            provision::judge(check, &finished)?;
        }
        Ok(())
    }

    /// Waits until it runs, and until it lets us in.
    async fn log_in(&self, access: &Access) -> Result<Session, BuildError> {
        let Build { region, request, dir, .. } = self.build;
        let login = &self.build.spec.builder.login;
        let running = status::until(region, &self.id, &InstanceStateName::Running, &request.cancel).await;
        let running = running.map_err(self.failed("launch a machine from"))?;
        let known_host = KnownHost { path: dir.join("known_hosts"), alias: self.id.clone() };
        let key = ssh::load(&access.key_file)?;
        let (host, port) = (keep::address(login, &running).unwrap_or_default(), login.port.unwrap_or(22));
        let login = Login { username: login.username.clone(), key, known_host };
        let mut last = None;
        let logging_in = ssh::log_in(host, port, &login, &mut last);
        if let Ok(session) = tokio::time::timeout(BOOT, logging_in).await {
            return session.map_err(self.failed("log into"));
        }
        let why = match last {
            Some(error) => VmError::Ssh(error),
            None => up::not_up(region, &self.id, format!("{host} port {port}")).await,
        };
        Err(self.failed("log into")(why))
    }

    /// Runs a command as root.
    async fn run(&self, session: &Session, command: &str) -> Result<Finished, SshError> {
        let command = as_root(&self.build.spec.builder.login.username, command);
        let none = Environment::default();
        let exec = Exec { command: &command, environment: &none, input: Input::Empty };
        let limits = Limits { cancel: self.build.request.cancel.clone(), timeout: Some(PATIENCE) };
        session.exec(&exec, Some(self.build.log), &limits).await
    }

    /// Ends it, and waits: the group is in use as long as it is there.
    async fn end(&self) -> Result<(), BuildError> {
        let Build { region, request, log, .. } = self.build;
        log.step(&format!("Terminating machine {}", self.id));
        let asked = region.ec2.terminate_instances().instance_ids(&self.id).send().await;
        match asked.map_err(|error| AwsError::of("TerminateInstances", error)) {
            Err(error) if !error.is_gone() => return Err(self.failed("terminate a machine from")(error)),
            _ => {}
        }
        match tokio::time::timeout(ENDING, status::until_gone(region, &self.id, &request.cancel)).await {
            Ok(gone) => gone.map_err(self.failed("terminate a machine from")),
            Err(_) => {
                tracing::warn!(machine = self.id, "a machine from the finished image takes long to end");
                Ok(())
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

/// The machine is the builder's like.
async fn spec(build: &Build<'_>) -> Result<AwsVmSpec, BuildError> {
    let builder = &build.spec.builder;
    let subnet_id = match (&builder.subnet_id, &builder.vpc_id) {
        (None, Some(vpc)) => surroundings::subnet_in(build.region, vpc, &builder.instance_type).await?,
        (subnet, _) => subnet.clone(),
    };
    Ok(AwsVmSpec {
        region: None,
        instance_type: builder.instance_type.clone(),
        subnet_id,
        security_group_ids: Vec::new(),
        allowed_cidrs: Vec::new(),
        associate_public_address: builder.associate_public_address,
        spot: false,
        root_volume: RootVolume::default(),
        iam_instance_profile: builder.iam_instance_profile.clone(),
        imdsv2_required: build.spec.imdsv2_required,
    })
}

/// An image that was available a moment ago, and is not everywhere in EC2.
fn is_unknown_image(error: &AwsError) -> bool {
    error.code().is_some_and(|code| ["InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"].contains(&code))
}

/// What AWS says of the launch, on the image's own attribute.
fn refused(image: &str, error: VmError) -> BuildError {
    match error {
        VmError::Refused { attribute, problem } => {
            let problem = format!("no machine can be launched from the finished image {image}: {problem}");
            BuildError::refused(of_image(attribute), problem)
        }
        VmError::Cancelled => BuildError::Cancelled,
        VmError::Aws(error) => error.into(),
        other => other.into(),
    }
}

/// The image's attribute for a machine's.
fn of_image(attribute: &'static str) -> &'static str {
    match attribute {
        "aws.instance_type" | "aws.subnet_id" | "aws.security_group_ids" | "aws.iam_instance_profile" => {
            attribute
        }
        "aws.root_volume.kms_key_id" => "aws.kms_key_id",
        _ => "aws.verify_boot",
    }
}

/// Without a terminal nobody could give a password.
fn as_root(username: &str, command: &str) -> String {
    if username == "root" {
        return command.to_owned();
    }
    format!("exec sudo -n /bin/sh -c {}", quote(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_launch_is_refused_for_is_told_on_an_attribute_of_the_image() {
        let refused = |code: &str, message: &str| AwsError::Refused {
            operation: "RunInstances",
            code: code.into(),
            message: message.into(),
            request_id: "r-1".into(),
        };
        for (code, message, expected) in [
            ("InvalidAMIID.NotFound", "The image id '[ami-1]' does not exist", "aws.verify_boot"),
            ("InsufficientInstanceCapacity", "no", "aws.instance_type"),
            ("Unsupported", "The instance type 't3.x' does not support arm64", "aws.instance_type"),
            ("InvalidSubnetID.NotFound", "x", "aws.subnet_id"),
            ("InvalidGroup.NotFound", "x", "aws.security_group_ids"),
            ("InvalidParameterValue", "Invalid IAM Instance Profile name", "aws.iam_instance_profile"),
            ("InvalidKMSKey.InvalidState", "x", "aws.kms_key_id"),
            ("InvalidBlockDeviceMapping", "x", "aws.verify_boot"),
        ] {
            let error = VmError::launching(refused(code, message), "ami-1", "us-west-2");
            let BuildError::Refused { attribute, problem } = super::refused("ami-1", error) else {
                panic!("{code}");
            };
            assert_eq!(attribute, expected, "{code}");
            let words = "no machine can be launched from the finished image ami-1: ";
            assert!(problem.starts_with(words) && problem.contains("r-1"), "{problem}");
        }
        let error = VmError::launching(refused("InstanceLimitExceeded", "no"), "ami-1", "us-west-2");
        assert!(matches!(super::refused("ami-1", error), BuildError::Aws(_)));
    }

    #[test]
    fn a_shell_of_roots_has_the_command_whole() {
        let command = "echo \"it's\" $HOME\ntrue";
        assert_eq!(as_root("root", command), command);
        let told = as_root("ubuntu", command);
        assert_eq!(told, "exec sudo -n /bin/sh -c 'echo \"it'\\''s\" $HOME\ntrue'");
    }
}
