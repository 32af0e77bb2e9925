//! Ways to build on EC2 that no other test takes, by real Packers. Behind the builders is a server that says yes to
//! everything: what counts is what EC2, a bastion and a portal see.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{
    BlockDeviceMapping, DefaultTargetCapacityType, EbsBlockDevice, Filter, FleetLaunchTemplateConfigRequest,
    FleetLaunchTemplateSpecificationRequest, FleetType, Image as Ami, Instance, RequestLaunchTemplateData,
    ResourceType, Tag, TagSpecification, TargetCapacitySpecificationRequest, Volume,
};
use sindri::backends::aws::image::{AwsImageSpec, Bastion, Tools};
use sindri::backends::aws::sweep::How;
use sindri::backends::aws::{Aws, AwsSettings};
use sindri::domain::causes;
use sindri::domain::{Arch, Built, ImageBuilder};
use sindri::packer::Settings;
use tokio_util::sync::CancellationToken;

use crate::aws_build::{Account, REGION, oldest, tool, with_plugin};
use crate::support::moto::{under_moto, under_moto_with};
use crate::support::{image, in_time};

const KEY: &str = "arn:aws:kms:us-west-2:123456789012:key/mrk-1234abcd12ab34cd56ef1234567890ab";

/// The server. Dropping it ends its process.
struct Machine {
    process: Child,
    told: BufReader<ChildStdout>,
    port: u16,
}

impl Machine {
    fn start(arguments: &[&str]) -> Self {
        let (stdin, stdout) = (Stdio::piped(), Stdio::piped());
        let mut process =
            Command::new(tool("machine")).args(arguments).stdin(stdin).stdout(stdout).spawn().unwrap();
        let mut machine = Self { told: BufReader::new(process.stdout.take().unwrap()), process, port: 0 };
        machine.port = machine.line().parse().unwrap();
        machine
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.told.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// Builds in a data folder of its own. Returns the AMI and its builder.
async fn build(
    account: &Account,
    name: &str,
    packer: Settings,
    settings: AwsSettings,
    spec: &AwsImageSpec,
) -> (Ami, Instance) {
    let data_dir = account.dir.path().join(name);
    let tools = Tools { runner: image::host().runner, packer, cache_dir: account.dir.path().join("cache") };
    let aws = Arc::new(Aws::new(settings, data_dir.clone()));
    let log = || fs::read_to_string(data_dir.join("logs/latest-test.log")).unwrap_or_default();
    let (builder, request) = (aws.builder(spec.clone(), tools), account.request(Vec::new()));
    let built = in_time(builder.build(&request), log).await;
    println!("{name}\n{}", log());
    let Ok(Built::Fresh(image)) = built.map_err(|error| panic!("{name}: {}", causes(&error))) else {
        panic!("nobody else builds here")
    };
    let found = account.ec2.describe_images().image_ids(image.id).send().await.unwrap();
    let ami = found.images.unwrap().remove(0);
    let tag = ami.tags().iter().find(|tag| tag.key() == Some("sindri_build")).unwrap();
    let builder = instances(&account.ec2, "tag:sindri_build", tag.value().unwrap()).await.remove(0);
    (ami, builder)
}

async fn instances(ec2: &Client, name: &str, value: &str) -> Vec<Instance> {
    let by = Filter::builder().name(name).values(value).build();
    let found = ec2.describe_instances().filters(by).send().await.unwrap();
    found.reservations.unwrap().into_iter().flat_map(|it| it.instances.unwrap()).collect()
}

/// An SSH agent. Dropping it ends its process.
struct Agent(Child);

impl Agent {
    fn start(socket: &Path) -> Self {
        let mut agent = Command::new("ssh-agent");
        Self(agent.args(["-D", "-a"]).arg(socket).stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// For arm64, with a key of the user's, in a subnet and groups of the user's, from an image with a volume beside its root that
/// stays when its instance goes.
async fn elsewhere(account: &Account, mut spec: AwsImageSpec) -> AwsImageSpec {
    let ec2 = &account.ec2;
    let source = ec2.register_image().name("arm").architecture("arm64".into());
    let more = EbsBlockDevice::builder().volume_size(2).delete_on_termination(false).build();
    let more = BlockDeviceMapping::builder().device_name("/dev/sdf").ebs(more).build();
    let source = source
        .root_device_name("/dev/sda1")
        .block_device_mappings(more)
        .send()
        .await
        .unwrap()
        .image_id
        .unwrap();
    let subnet = ec2.describe_subnets().send().await.unwrap().subnets.unwrap().remove(1);
    let mut groups = Vec::new();
    for name in ["one", "two"] {
        let made = ec2.create_security_group().group_name(name).description(name);
        groups.extend(made.vpc_id(subnet.vpc_id().unwrap()).send().await.unwrap().group_id);
    }
    spec.arch = Arch::Arm64;
    spec.source = sindri::backends::aws::image::Source::Id(source);
    spec.volume.encrypted = true;
    spec.volume.kms_key_id = Some(KEY.into());
    spec.builder.instance_type = "t4g.large".into();
    spec.builder.vpc_id.clone_from(&subnet.vpc_id);
    spec.builder.subnet_id.clone_from(&subnet.subnet_id);
    spec.builder.associate_public_address = Some(true);
    spec.builder.security_group_ids = groups;
    spec
}

/// Remembers all encrypted volumes that are attached beside a root.
async fn watch(ec2: &Client, seen: &mut BTreeSet<String>) {
    loop {
        let there = ec2.describe_volumes().send().await.unwrap().volumes.unwrap_or_default();
        let is_further = |it: &Volume| it.attachments().iter().any(|it| it.device() == Some("/dev/sdf"));
        let further = there.into_iter().filter(|it| is_further(it) && it.encrypted() == Some(true));
        seen.extend(further.filter_map(|it| it.volume_id));
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

fn through_a_bastion(mut spec: AwsImageSpec, port: u16, key: Option<std::path::PathBuf>) -> AwsImageSpec {
    let (host, username) = ("127.0.0.1".into(), "jump".into());
    spec.builder.login.host = Some("builder.internal".into());
    spec.builder.login.port = Some(2222);
    spec.builder.login.bastion = Some(Bastion { host, port: Some(port), username, private_key_path: key });
    spec
}

#[test]
fn ways_to_build_that_need_no_guest() {
    let scratch = tempfile::tempdir().unwrap();
    let socket = scratch.path().join("agent");
    let mut running = None;
    let environment = |child: &mut Command| {
        running = Some(Agent::start(&socket));
        child.env("SSH_AUTH_SOCK", &socket);
    };
    under_moto_with("ways_to_build_that_need_no_guest", environment, async || {
        let account = Account::new().await;
        let added = Command::new("ssh-add").arg("-q").arg(account.key()).status().unwrap();
        assert!(added.success());
        let machine = Machine::start(&[]);
        let mut bastion = Machine::start(&[&format!("127.0.0.1:{}", machine.port)]);
        let mut spec = account.spec();
        spec.builder.login.port = Some(machine.port);
        let mut spot = spec.clone();
        spot.builder.spot = true;
        let by_key = through_a_bastion(spec.clone(), bastion.port, Some(account.key()));
        let by_agent = through_a_bastion(spec.clone(), bastion.port, None);
        let elsewhere = elsewhere(&account, spec).await;
        let plugin = with_plugin(&account);
        let run = async |name: &str, packer: Settings, spec: &AwsImageSpec| {
            build(&account, name, packer, AwsSettings::default(), spec).await
        };
        let built = async {
            tokio::join!(
                run("spot", oldest(), &spot),
                run("spot-plugin", plugin.clone(), &spot),
                run("elsewhere", oldest(), &elsewhere),
                run("elsewhere-plugin", plugin.clone(), &elsewhere),
                run("by-key", oldest(), &by_key),
                run("by-agent", plugin.clone(), &by_agent),
            )
        };
        // No builder is gone before it was looked at, however busy this computer is.
        let late = r#"{"action": "TerminateInstances", "times": 100, "kind": "late", "seconds": 2}"#;
        account.fault(late).await;
        let mut further = BTreeSet::new();
        let built = tokio::select! {
            built = built => built,
            () = watch(&account.ec2, &mut further) => unreachable!("it never ends"),
        };
        assert_eq!(further.len(), 2, "each of the two builders has the source's other volume");
        for (_, builder) in [built.0, built.1] {
            assert!(builder.spot_instance_request_id().is_some());
        }
        for (ami, builder) in [built.2, built.3] {
            assert_eq!(ami.architecture().unwrap().as_str(), "arm64");
            let groups = builder.security_groups().iter().map(|it| it.group_id().unwrap());
            let wanted = elsewhere.builder.security_group_ids.iter().map(String::as_str);
            assert_eq!(groups.collect::<BTreeSet<_>>(), wanted.collect());
            assert_eq!(builder.subnet_id(), elsewhere.builder.subnet_id.as_deref());
            let snapshot = ami.block_device_mappings()[0].ebs().unwrap().snapshot_id().unwrap();
            let found = account.ec2.describe_snapshots().snapshot_ids(snapshot).send().await.unwrap();
            assert_eq!(found.snapshots()[0].kms_key_id(), Some(KEY));
        }
        for _ in 0..4 {
            let line = bastion.line();
            assert!(line.starts_with("jump SHA256:") && line.ends_with(" builder.internal 2222"), "{line}");
        }
        let more = account.more().await;
        assert_eq!(more.keys().collect::<Vec<_>>(), ["images", "security_groups", "snapshots"]);
        assert_eq!(more["security_groups"], 2);
    });
    drop(running);
}

/// Answers with credentials whoever has the token, as the portal of SSO does; tells its port.
fn portal() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let head = BufReader::new(&stream).lines().map_while(Result::ok);
            let head: Vec<String> = head.take_while(|line| !line.is_empty()).collect();
            let is_asked = head[0].contains("/federation/credentials?")
                && head[0].contains("role_name=builder")
                && head.iter().any(|line| line.ends_with("bearer_token: the-token"));
            let (status, body) = if is_asked {
                let body = r#"{"roleCredentials": {"accessKeyId": "ASIAOFSSO", "secretAccessKey": "s",
                    "sessionToken": "session-of-sso", "expiration": 4102444800000}}"#;
                ("200 OK", body)
            } else {
                ("401 Unauthorized", "{}")
            };
            let length = body.len();
            write!(stream, "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").unwrap();
        }
    });
    port
}

/// A home with a profile whose login lasts until then. The token's file has the SHA-1 of the session's name, `corp`.
fn home(dir: &Path, until: &str) {
    let cache = dir.join(".aws/sso/cache");
    fs::create_dir_all(&cache).unwrap();
    let config = "[profile work]\nregion = us-west-2\nsso_session = corp\nsso_account_id = 123456789012\n\
        sso_role_name = builder\n[sso-session corp]\nsso_region = us-west-2\nsso_start_url = https://corp.test/start\n";
    fs::write(dir.join(".aws/config"), config).unwrap();
    let token = format!(r#"{{"accessToken": "the-token", "expiresAt": "{until}"}}"#);
    fs::write(cache.join("ee0bfd2552fbd840c02cc48b6e823320543c450f.json"), token).unwrap();
}

#[test]
fn credentials_of_sso_reach_packer() {
    let scratch = tempfile::tempdir().unwrap();
    let environment = |child: &mut Command| {
        home(scratch.path(), "2099-01-01T00:00:00Z");
        // Tools stay where they are.
        let tools = std::env::var_os("XDG_CACHE_HOME").map(std::path::PathBuf::from);
        let tools = tools.unwrap_or_else(|| Path::new(&std::env::var_os("HOME").unwrap()).join(".cache"));
        child.env("XDG_CACHE_HOME", tools);
        child.env("HOME", scratch.path()).env_remove("AWS_CONFIG_FILE");
        child.env("AWS_ENDPOINT_URL_SSO", format!("http://127.0.0.1:{}", portal()));
    };
    under_moto_with("credentials_of_sso_reach_packer", environment, async || {
        let account = Account::new().await;
        let machine = Machine::start(&[]);
        let mut spec = account.spec();
        spec.builder.login.port = Some(machine.port);
        let settings = AwsSettings { profile: Some("work".into()), ..AwsSettings::default() };
        // What Packer sees, and then a Packer.
        let path = account.dir.path().join("seen");
        let script = format!("#!/bin/sh\nenv >>{}\nexec packer \"$@\"\n", path.display());
        let packer = account.dir.path().join("wrapper");
        fs::write(&packer, script).unwrap();
        fs::set_permissions(&packer, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let packer = Settings { binary: Some(packer), ..Settings::default() };
        build(&account, "sso", packer, settings.clone(), &spec).await;
        let seen = fs::read_to_string(path).unwrap();
        assert!(seen.contains("AWS_SESSION_TOKEN=session-of-sso"), "{seen}");

        home(Path::new(&std::env::var("HOME").unwrap()), "2020-01-01T00:00:00Z");
        let aws = Aws::new(settings, account.dir.path().join("late"));
        let error = aws.account().await.unwrap_err();
        assert!(causes(&error).contains("aws sso login"), "{}", causes(&error));
    });
}

/// The oldest Packer gives a spot instance its tags when it is there already, and may be killed before.
#[test]
fn a_spot_instance_without_tags_is_swept() {
    under_moto("a_spot_instance_without_tags_is_swept", async || {
        let account = Account::new().await;
        let ec2 = &account.ec2;
        let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
        let tags = TagSpecification::builder()
            .resource_type(ResourceType::LaunchTemplate)
            .tags(tag("sindri_build", "1234abcd-12ab-34cd-56ef-1234567890ab"))
            .tags(tag("sindri_deadline", "2026-01-01T00:00:00Z"));
        let data =
            RequestLaunchTemplateData::builder().image_id(&account.source).instance_type("t3.micro".into());
        let made =
            ec2.create_launch_template().launch_template_name("packer").launch_template_data(data.build());
        made.tag_specifications(tags.build()).send().await.unwrap();
        let from =
            FleetLaunchTemplateSpecificationRequest::builder().launch_template_name("packer").version("1");
        let capacity = TargetCapacitySpecificationRequest::builder()
            .total_target_capacity(1)
            .default_target_capacity_type(DefaultTargetCapacityType::Spot);
        let from = FleetLaunchTemplateConfigRequest::builder().launch_template_specification(from.build());
        let fleet = ec2.create_fleet().launch_template_configs(from.build()).r#type(FleetType::Instant);
        fleet.target_capacity_specification(capacity.build()).send().await.unwrap();
        assert_eq!(account.more().await["instances"], 1);

        let aws = Aws::new(AwsSettings::default(), account.dir.path().join("other"));
        let never = CancellationToken::new();
        let swept = aws.sweep_overdue(Some(REGION), How::Really, &never).await.unwrap();
        assert_eq!(swept.len(), 2, "{swept:?}");
        assert_eq!(account.more().await, [].into());
    });
}
