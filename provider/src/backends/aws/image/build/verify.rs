//! Checks of a finished AMI (`verify_boot`): in a machine that is launched from it and terminated. An image without checks
//! is known to boot afterwards, and to let somebody in.
//!
//! The machine has the build's tags from its first moment, and the build is in the journal: one that is killed here is
//! swept as one that is killed in its builder. It is let in by the same key and group. It never runs on spare capacity: an
//! image that is good is not to fail because a machine was taken away.
//!
//! An image that passed is not lost with its machine: it is accepted first, in the journal, too, and then the machine is
//! ended. When that fails, the machine is left to the journal.

use std::time::{Duration, Instant};

use aws_sdk_ec2::types::{Image as Ami, Instance, InstanceStateName};

use super::access::Access;
use super::engine::{AWAIT, BOOT, PATIENCE};
use super::{Build, BuildError, keep};
use crate::backends::aws::image::{Builder, Interface, Login as ImageLogin};
use crate::backends::aws::region::{Region, filter, tag_filter};
use crate::backends::aws::vm::launch::{Launch, is_early};
use crate::backends::aws::vm::{AwsVmSpec, RootVolume, VmError, status, surroundings, up};
use crate::backends::aws::{AwsError, tags};
use crate::domain::backend::causes;
use crate::domain::{Check, Environment};
use crate::process::{BuildLog, Finished, Limits};
use crate::provision::{self, STARTED};
use crate::ssh::{self, Exec, Input, KnownHost, Login, Session, SshError, quote};

/// How long AWS may take to end the machine. What it costs ends when that begins.
const ENDING: Duration = Duration::from_secs(5 * 60);
/// How long a launch waits for capacity, which AWS says to come in minutes
/// (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshooting-launch.html>), and the pause between two tries.
const CAPACITY: Duration = Duration::from_secs(5 * 60);
/// See [`CAPACITY`].
const CAPACITY_LOOK: Duration = Duration::from_secs(10);
/// For how many looks a machine that runs may be without its public address.
const ADDRESS_LOOKS: u32 = 5;
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
    build: &'a Build<'a>,
    access: &Access,
    ami: &Ami,
) -> Result<Machine<'a>, BuildError> {
    let verified = async {
        let machine = Machine::launch(build, access, ami).await?;
        machine.check(access).await?;
        Ok(machine)
    };
    tokio::select! {
        biased;
        // Whatever is under way: what comes of it is found by its tags.
        () = build.request.cancel.cancelled() => Err(BuildError::Cancelled),
        verified = verified => verified,
    }
}

/// A machine from the image.
pub(super) struct Machine<'a> {
    build: &'a Build<'a>,
    image: String,
    id: String,
}

impl<'a> Machine<'a> {
    async fn launch(build: &'a Build<'a>, access: &Access, ami: &Ami) -> Result<Self, BuildError> {
        let image = ami.image_id().unwrap_or_default().to_owned();
        build.log.step(&format!("Launching a machine from {image} to check it"));
        let failed = |error: VmError| unlaunched(&image, error);
        let spec = spec(build).await.map_err(|error| failed(error.into()))?;
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
        let launched = while_short(CAPACITY, CAPACITY_LOOK, || {
            launch.attempt(build.region, by.clone(), is_early, &build.request.cancel)
        });
        let instance = launched.await.map_err(|error| failed(launch.told(build.region, error)))?;
        let id = instance.instance_id().unwrap_or_default().to_owned();
        build.log.step(&format!("Machine {id} was launched"));
        Ok(Self { build, image, id })
    }

    /// Waits for its first boot, and runs the checks.
    async fn check(&self, access: &Access) -> Result<(), BuildError> {
        let (mut passed, mut broken) = (0, 0);
        loop {
            match self.check_from(&mut passed, access).await {
                Err(error) if error.is_lost() && broken < LOGINS => {
                    broken += 1;
                    self.build.log.step("The connection broke: logging in again");
                    tokio::time::sleep(GOING_DOWN).await;
                }
                checked => return checked,
            }
        }
    }

    /// Over one connection; the first checks have `passed` over others.
    async fn check_from(&self, passed: &mut usize, access: &Access) -> Result<(), BuildError> {
        let log = self.build.log;
        let session = self.log_in(access).await?;
        log.step("Waiting for the end of its first boot");
        let booted = self.run(&session, AWAIT).await.map_err(self.failed("wait for cloud-init in"))?;
        if booted.code != 0 {
            let (code, output) = (booted.code, booted.output);
            return Err(self.failed("boot")(VmError::CloudInit { code, output }));
        }
        self.run(&session, STARTED).await.map_err(self.failed("wait for the services of"))?;
        let spec = &self.build.request.spec;
        let look = provision::look(spec.security);
        for check in look.iter().chain(&spec.checks).skip(*passed) {
            log.step(&format!("Checking: {}", check.name));
            let finished = self.run(&session, &check.command).await;
            let finished = finished.map_err(|error| self.unchecked(check, error))?;
            provision::judge(check, &finished)?;
            *passed += 1;
        }
        Ok(())
    }

    /// Waits until it runs, and until it lets us in.
    async fn log_in(&self, access: &Access) -> Result<Session, BuildError> {
        let Build { region, dir, log, .. } = self.build;
        let login = &self.build.spec.builder.login;
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
        let Build { region, request, .. } = self.build;
        let running = async {
            for look in 0.. {
                let running =
                    status::until(region, &self.id, &InstanceStateName::Running, &request.cancel).await?;
                if is_reachable(&self.build.spec.builder.login, &running) {
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

    /// Runs a command as root.
    async fn run(&self, session: &Session, command: &str) -> Result<Finished, SshError> {
        let command = as_root(&self.build.spec.builder.login.username, command);
        let none = Environment::default();
        let exec = Exec { command: &command, environment: &none, input: Input::Empty };
        let limits = Limits { cancel: self.build.request.cancel.clone(), timeout: Some(PATIENCE) };
        session.exec(&exec, Some(self.build.log), &limits).await
    }

    /// Ends it, and waits: the group is in use as long as it is there. Whether it is gone: the image does not depend on it,
    /// and when it is not, the journal must still have it.
    pub(super) async fn end(&self) -> bool {
        self.build.log.step(&format!("Terminating machine {}", self.id));
        let why = match tokio::time::timeout(ENDING, self.terminate()).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => causes(&error),
            Err(_) => format!("AWS did not end it within {ENDING:?}"),
        };
        self.build.log.step(&format!(
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
        let Build { region, request, .. } = self.build;
        let mut pause = TERMINATE_AGAIN;
        loop {
            let asked = region.ec2.terminate_instances().instance_ids(&self.id).send().await;
            match asked.map_err(|error| AwsError::of("TerminateInstances", error)) {
                Err(error) if error.is_ambiguous() => pause = status::wait(pause, &request.cancel).await?,
                Err(error) if !error.is_gone() => return Err(error.into()),
                _ => return status::until_gone(region, &self.id, &request.cancel).await,
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
async fn spec(build: &Build<'_>) -> Result<AwsVmSpec, AwsError> {
    let builder = &build.spec.builder;
    let vpc = match &builder.vpc_id {
        _ if !looks_for_a_subnet(builder) => None,
        Some(vpc) => Some(vpc.clone()),
        None => default_vpc(build.region).await?,
    };
    let subnet_id = match vpc {
        Some(vpc) => surroundings::subnet_in(build.region, &vpc, &builder.instance_type).await?,
        None => builder.subnet_id.clone(),
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

/// Whether a subnet is looked for: only where a public address is asked for or refused, as Packer does for the builder, in the
/// VPC that is named or the default one (`StepNetworkInfo` in packer-plugin-amazon). Otherwise EC2 takes one.
fn looks_for_a_subnet(builder: &Builder) -> bool {
    builder.subnet_id.is_none() && builder.associate_public_address.is_some()
}

/// The account's own VPC in the region, if it has one.
async fn default_vpc(region: &Region) -> Result<Option<String>, AwsError> {
    let asked = region.ec2.describe_vpcs().filters(filter("is-default", ["true"])).send().await;
    let vpcs = asked.map_err(|error| AwsError::of("DescribeVpcs", error))?.vpcs.unwrap_or_default();
    Ok(vpcs.into_iter().find_map(|vpc| vpc.vpc_id))
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

/// As long as AWS has no machine to spare it is asked again.
async fn while_short<T, F: Future<Output = Result<T, VmError>>>(
    limit: Duration,
    pause: Duration,
    launch: impl Fn() -> F,
) -> Result<T, VmError> {
    let since = Instant::now();
    loop {
        match launch().await {
            Err(VmError::Aws(error)) if is_short(&error) && since.elapsed() < limit => {
                tokio::time::sleep(pause).await;
            }
            launched => return launched,
        }
    }
}

fn is_short(error: &AwsError) -> bool {
    error.code() == Some("InsufficientInstanceCapacity")
}

/// The console may show what the build was given as a secret.
fn redacted(log: &BuildLog, error: VmError) -> VmError {
    match error {
        VmError::NotUp { address, console } => VmError::NotUp { address, console: log.redact(&console) },
        other => other,
    }
}

/// What AWS says of the launch, on the image's own attribute.
fn unlaunched(image: &str, source: VmError) -> BuildError {
    let attribute = match &source {
        VmError::Cancelled => return BuildError::Cancelled,
        VmError::Refused { attribute, .. } => of_image(attribute),
        _ => "aws.verify_boot",
    };
    BuildError::Unlaunched { image: image.to_owned(), attribute, source: Box::new(source) }
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
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::process::{Redactor, Secret};

    fn refused(code: &str, message: &str) -> AwsError {
        AwsError::Refused {
            operation: "RunInstances",
            code: code.into(),
            message: message.into(),
            request_id: "r-1".into(),
        }
    }

    fn builder() -> Builder {
        Builder {
            instance_type: "t3.large".into(),
            vpc_id: None,
            subnet_id: None,
            security_group_ids: Vec::new(),
            allowed_cidrs: Vec::new(),
            iam_instance_profile: None,
            associate_public_address: None,
            spot: false,
            login: ImageLogin {
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
    fn what_a_launch_is_refused_for_is_told_on_an_attribute_of_the_image() {
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
            let error = unlaunched("ami-1", error);
            let BuildError::Unlaunched { attribute, .. } = &error else { panic!("{code}") };
            assert_eq!(*attribute, expected, "{code}");
            let words = "no machine can be launched from the finished image ami-1";
            let told = causes(&error);
            assert!(told.starts_with(words) && told.contains("r-1"), "{told}");
        }
    }

    #[test]
    fn whatever_a_launch_fails_for_is_of_the_image() {
        let (action, message, request_id) = ("ec2:DescribeSubnets".into(), String::new(), "r-1".into());
        for error in [
            refused("VcpuLimitExceeded", "no").into(),
            refused("InstanceLimitExceeded", "no").into(),
            AwsError::Throttled { operation: "DescribeSubnets", attempts: 25, request_id: "r-1".into() }
                .into(),
            AwsError::Denied { action, message, request_id }.into(),
            VmError::launching(refused("Unsupported", "instance type"), "ami-1", "us-west-2"),
        ] {
            let error = unlaunched("ami-1", error);
            assert!(error.is_of_the_image(), "{error:?}");
        }
        assert!(matches!(unlaunched("ami-1", VmError::Cancelled), BuildError::Cancelled));
    }

    #[tokio::test]
    async fn a_launch_waits_for_capacity_and_for_nothing_else() {
        let pause = Duration::from_millis(1);
        for (code, limit, expected) in [
            ("InsufficientInstanceCapacity", CAPACITY, 3),
            ("InsufficientInstanceCapacity", Duration::ZERO, 1),
            ("VcpuLimitExceeded", CAPACITY, 1),
        ] {
            let tries = AtomicU32::new(0);
            let launch = || async {
                match tries.fetch_add(1, Ordering::Relaxed) {
                    2 => Ok(()),
                    _ => Err(VmError::from(refused(code, "no"))),
                }
            };
            let launched = while_short(limit, pause, launch).await;
            assert_eq!(
                (tries.load(Ordering::Relaxed), launched.is_ok()),
                (expected, expected == 3),
                "{code}"
            );
        }
    }

    #[test]
    fn a_subnet_is_looked_for_as_packer_does() {
        for (subnet, public, expected) in [
            (None, None, false),
            (None, Some(true), true),
            (None, Some(false), true),
            (Some("subnet-1"), Some(true), false),
        ] {
            let mut builder = builder();
            builder.subnet_id = subnet.map(str::to_owned);
            builder.associate_public_address = public;
            assert_eq!(looks_for_a_subnet(&builder), expected, "{subnet:?} {public:?}");
        }
    }

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
