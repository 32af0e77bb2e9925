//! Images built on EC2 by real Packers, against the rig's EC2. Behind its instances is a guest of our own, so that steps run
//! for real.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use acceptance_tests::only_root;
use aws_sdk_ec2::Client;
use aws_sdk_ec2::primitives::Blob;
use chrono::Utc;
use serde_json::{Value, json};
use sindri::backends::aws::image::{AwsImageSpec, Builder, Interface, Login, Source, Tools, Volume};
use sindri::backends::aws::sweep::{How, Kind, Swept};
use sindri::backends::aws::{Aws, AwsSettings};
use sindri::backends::qemu::guest::{Boot, Disk, DiskAccess, Forward, Guest, GuestSpec, Lifetime};
use sindri::backends::qemu::host::{AcceleratorChoice, Emulator};
use sindri::backends::qemu::{DiskFormat, Network};
use sindri::domain::cache_key::KeyInputs;
use sindri::domain::causes;
use sindri::domain::{
    Action, Arch, BackendError, BuildRequest, Built, CacheKey, Check, Environment, Holder, Image,
    ImageBackend, ImageBuilder, ImageSpec, Labels, OnError, Security, Step,
};
use sindri::packer::Settings;
use sindri::process::{Limits, Secret};
use sindri::ssh::{self, Exec, Input, KnownHost, Session};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::moto::under_moto;
use crate::support::{debian, image};

pub(crate) const REGION: &str = "us-west-2";
const PAIR: &str = "of-the-user";

/// An account with a source image and a key pair.
pub(crate) struct Account {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) ec2: Client,
    pub(crate) source: String,
    pub(crate) url: String,
    before: Value,
}

impl Account {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = aws_config::from_env().load().await;
        let ec2 = Client::new(&config);
        let registered =
            ec2.register_image().name("a-source").root_device_name("/dev/sda1").send().await.unwrap();
        let public = ssh::generate(&dir.path().join("key"), "of the user").unwrap();
        let material = Blob::new(public.trim_end());
        ec2.import_key_pair().key_name(PAIR).public_key_material(material).send().await.unwrap();
        let url = std::env::var("AWS_ENDPOINT_URL").unwrap();
        let mut account = Self { dir, ec2, source: registered.image_id.unwrap(), url, before: Value::Null };
        account.before = account.inventory().await;
        account
    }

    async fn inventory(&self) -> Value {
        let got = reqwest::get(format!("{}/_rig/inventory", self.url)).await.unwrap();
        serde_json::from_str(&got.text().await.unwrap()).unwrap()
    }

    /// What there is more than in the beginning.
    pub(crate) async fn more(&self) -> BTreeMap<String, usize> {
        let now = self.inventory().await;
        let count = |value: &Value, kind: &str| value[kind].as_array().unwrap().len();
        let kinds = now.as_object().unwrap().keys().map(|kind| (kind.clone(), count(&now, kind)));
        let more = kinds.map(|(kind, n)| (kind.clone(), n - count(&self.before, &kind)));
        more.filter(|(_, n)| *n > 0).collect()
    }

    pub(crate) async fn fault(&self, fault: &str) {
        let client = reqwest::Client::new();
        client.delete(format!("{}/_rig/faults", self.url)).send().await.unwrap();
        let ordered = client.post(format!("{}/_rig/faults", self.url)).body(fault.to_owned());
        ordered.send().await.unwrap().error_for_status().unwrap();
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.dir.path().join("key")
    }

    pub(crate) fn spec(&self) -> AwsImageSpec {
        AwsImageSpec {
            region: REGION.into(),
            arch: Arch::X86_64,
            source: Source::Id(self.source.clone()),
            volume: Volume {
                size_gb: 20,
                volume_type: "gp3".into(),
                iops: None,
                throughput: None,
                encrypted: false,
                kms_key_id: None,
            },
            imdsv2_required: true,
            verify_boot: false,
            for_everybody: false,
            builder: Builder {
                instance_type: "t3.large".into(),
                vpc_id: None,
                subnet_id: None,
                security_group_ids: Vec::new(),
                allowed_cidrs: vec!["203.0.113.7/32".into()],
                iam_instance_profile: None,
                associate_public_address: None,
                spot: false,
                login: Login {
                    username: "builder".into(),
                    interface: Interface::Public,
                    host: Some("127.0.0.1".into()),
                    port: Some(1),
                    keypair_name: Some(PAIR.into()),
                    private_key_path: Some(self.key()),
                    bastion: None,
                },
            },
        }
    }

    pub(crate) fn request(&self, steps: Vec<Step>) -> BuildRequest {
        let mut spec = image::image(steps);
        spec.security = Security { clean_sensitive_data: false, remove_ssh_host_keys: false };
        let text = |text: &str| text.to_owned();
        BuildRequest {
            key: key(&spec),
            spec,
            key_inputs: KeyInputs::default(),
            labels: Labels {
                description: Some(text("for people")),
                tags: BTreeMap::from([(text("team"), text("web")), (text("odd {{ .x"), text("{{`}} ${a}"))]),
                channels: BTreeSet::from([text("production")]),
            },
            inputs: Value::Null,
            holder: Holder::random(),
            share: false,
            not_before: None,
            deadline: Utc::now() + Duration::from_secs(3600),
            cancel: CancellationToken::new(),
        }
    }

    async fn build(
        &self,
        packer: Settings,
        spec: AwsImageSpec,
        request: &BuildRequest,
    ) -> Result<Image, BackendError> {
        let aws = Arc::new(Aws::new(AwsSettings::default(), self.dir.path().into()));
        let host = image::host();
        let tools = Tools { runner: host.runner, packer, cache_dir: self.dir.path().join("cache") };
        let built = aws.builder(spec, tools).build(request).await;
        println!("{}", self.log());
        assert!(!self.log().contains(image::CANARY), "a secret in the log");
        let left = fs::read_dir(self.dir.path().join("builds")).map_or(0, Iterator::count);
        let kept = request.spec.on_error == OnError::Keep;
        assert_eq!(left, usize::from(kept), "a build's folder stays");
        let image = match built? {
            Built::Fresh(image) => image,
            Built::Shared(_) => panic!("nobody else builds here"),
        };
        // It is in state.
        aws.images(Some(REGION)).confirm_claim(&image.id, &request.holder).await.unwrap();
        Ok(image)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("logs/latest-test.log")).unwrap_or_default()
    }
}

fn key(spec: &ImageSpec) -> CacheKey {
    CacheKey::of(spec, &KeyInputs::default()).unwrap()
}

pub(crate) fn tool(name: &str) -> PathBuf {
    acceptance_tests::built_tool(name).unwrap()
}

/// The oldest, from `PATH`.
pub(crate) fn oldest() -> Settings {
    Settings::default()
}

pub(crate) fn newer() -> Settings {
    Settings { binary: Some(tool("packer")), ..Settings::default() }
}

fn nothing() -> BTreeMap<String, usize> {
    BTreeMap::new()
}

/// The newer one with the plugin of today instead of the one in itself: as a version that has none.
pub(crate) fn with_plugin(account: &Account) -> Settings {
    let path = account.dir.path().join("bare");
    let packer = tool("packer");
    let text = format!(
        "#!/bin/sh\ncase $1 in version) echo Packer v1.11.2;; *) exec {} \"$@\";; esac\n",
        packer.display()
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let folder = tool("packer-plugin-amazon").parent().unwrap().join("plugins");
    Settings { binary: Some(path), plugin_dir: Some(folder), skip_init: false, ..Settings::default() }
}

/// A script that says that it is a Packer, and made this.
fn liar(account: &Account, artifact: &str) -> Settings {
    let path = account.dir.path().join("liar");
    let told = format!("echo 1,a.i,artifact,0,builder-id,x; echo '1,a.i,artifact,0,id,{artifact}'");
    let text = format!("#!/bin/sh\ncase $1 in version) echo Packer v1.6.6;; build) {told};; esac\n");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    Settings { binary: Some(path), ..Settings::default() }
}

#[test]
fn what_cannot_be_built_leaves_nothing() {
    // Here, where it is heard: what the child says is shown only when it fails.
    let is_root = only_root("mount a small disk").unwrap();
    under_moto("what_cannot_be_built_leaves_nothing", async || {
        let account = Account::new().await;
        let request = account.request(Vec::new());
        let refused = async |spec: AwsImageSpec| {
            let error = account.build(oldest(), spec, &request).await.unwrap_err();
            let BackendError::Refused { attribute, problem } = error else { panic!("{error:?}") };
            (attribute, problem)
        };
        let mut spec = account.spec();
        spec.source = Source::Id("ami-0123456789abcdef0".into());
        assert_eq!(refused(spec).await.0, "aws.source_image");
        let mut spec = account.spec();
        spec.arch = Arch::Arm64;
        let (attribute, problem) = refused(spec).await;
        assert!(attribute == "aws.source_image" && problem.contains("is for x86_64"), "{problem}");
        let mut spec = account.spec();
        spec.source = Source::Newest { name: "none-*".into(), owners: vec!["self".into()] };
        assert_eq!(refused(spec).await.0, "aws.source_filter");
        let mut spec = account.spec();
        spec.volume.size_gb = 1;
        assert_eq!(refused(spec).await.0, "aws.volume_size_gb");

        // With a key of the build's own, which must go, too.
        let mut own_key = account.spec();
        (own_key.builder.login.keypair_name, own_key.builder.login.private_key_path) = (None, None);
        own_key.source = Source::Newest { name: "a-sour*".into(), owners: vec!["self".into()] };
        let mut unknown = own_key.clone();
        unknown.builder.instance_type = "x9.unknown".into();
        let error = account.build(oldest(), unknown, &request).await.unwrap_err();
        assert!(causes(&error).contains("x9.unknown"), "{}", causes(&error));
        assert_eq!(account.more().await, nothing());

        let denied = r#"{"action": "RunInstances", "times": 99, "status": 403, "code": "UnauthorizedOperation",
            "message": "You are not authorized to perform this operation."}"#;
        account.fault(denied).await;
        let error = account.build(newer(), own_key.clone(), &request).await.unwrap_err();
        assert!(causes(&error).contains("not authorized"), "{}", causes(&error));
        assert_eq!(account.more().await, nothing());

        for (told, words) in [
            ("us-west-2:ami-0123456789abcdef0", "EC2 knows no such image"),
            ("us-east-1:ami-0123456789abcdef0", "was to be made in us-west-2"),
            ("us-west-2:ami-1%!(PACKER_COMMA)us-west-2:ami-2", "one image was asked for"),
        ] {
            let error = account.build(liar(&account, told), own_key.clone(), &request).await.unwrap_err();
            assert!(causes(&error).contains(words), "{}", causes(&error));
            assert_eq!(account.more().await, nothing());
        }

        // What was edited since the plan goes into no image that is found by what it held then.
        let upload = account.dir.path().join("upload");
        fs::write(&upload, "as planned").unwrap();
        let (source, destination) = (upload.clone(), "/x".into());
        let action = Action::Upload { source, destination, mode: None, owner: None };
        let edited = account.request(vec![image::step(action)]);
        fs::write(&upload, "edited").unwrap();
        let told = liar(&account, "us-west-2:ami-0123456789abcdef0");
        let error = account.build(told, own_key.clone(), &edited).await.unwrap_err();
        assert!(causes(&error).contains("was changed after the plan"), "{}", causes(&error));
        assert_eq!(account.more().await, nothing());

        if is_root {
            full_disk(&account, &own_key, &request).await;
        }

        // What cannot be written down is not asked for.
        let journal = account.dir.path().join("journal");
        fs::remove_dir_all(&journal).unwrap();
        fs::write(&journal, "").unwrap();
        let error = account.build(oldest(), own_key, &request).await.unwrap_err();
        assert!(causes(&error).contains(journal.to_str().unwrap()), "{}", causes(&error));
        assert_eq!(account.more().await, nothing());
    });
}

/// Packer's own requests are apart: this one makes none.
#[test]
fn a_build_asks_ec2_for_little() {
    under_moto("a_build_asks_ec2_for_little", async || {
        let account = Account::new().await;
        let made = account.ec2.register_image().name("made").root_device_name("/dev/sda1").send().await;
        let told = format!("{REGION}:{}", made.unwrap().image_id.unwrap());
        let mut spec = account.spec();
        (spec.builder.login.keypair_name, spec.builder.login.private_key_path) = (None, None);
        let request = BuildRequest { share: true, labels: Labels::default(), ..account.request(Vec::new()) };
        let counts = format!("{}/_rig/requests", account.url);
        reqwest::Client::new().delete(&counts).send().await.unwrap();
        account.build(liar(&account, &told), spec, &request).await.unwrap();
        let asked = reqwest::get(&counts).await.unwrap().text().await.unwrap();
        let asked: BTreeMap<&str, u32> = serde_json::from_str(&asked).unwrap();
        let expected = [
            ("AuthorizeSecurityGroupIngress", 1),
            ("CreateSecurityGroup", 1),
            // What the image is and its holder; its key; that state knows the holder.
            ("CreateTags", 3),
            ("DeleteKeyPair", 1),
            ("DeleteSecurityGroup", 1),
            ("DeleteTags", 1),
            // By the key; the source; the image before its tags and after.
            ("DescribeImages", 4),
            // Whether Packer left its builder.
            ("DescribeInstances", 1),
            ("DescribeTags", 1),
            ("GetCallerIdentity", 1),
            ("ImportKeyPair", 1),
            ("ModifyImageAttribute", 1),
        ];
        assert_eq!(asked, BTreeMap::from(expected));
    });
}

#[test]
fn an_image_that_is_not_everywhere_in_ec2_is_completed() {
    under_moto("an_image_that_is_not_everywhere_in_ec2_is_completed", async || {
        let account = Account::new().await;
        for (number, (action, after)) in
            [("ModifyImageAttribute", 0), ("CreateTags", 0), ("CreateTags", 1)].into_iter().enumerate()
        {
            let made = account.ec2.register_image().name(format!("made-{number}"));
            let made = made.root_device_name("/dev/sda1").send().await.unwrap().image_id.unwrap();
            let unknown = json!({ "action": action, "after": after, "times": 2, "status": 400, "code": "InvalidAMIID.NotFound" });
            account.fault(&unknown.to_string()).await;
            let packer = liar(&account, &format!("{REGION}:{made}"));
            let image = account.build(packer, account.spec(), &account.request(Vec::new())).await.unwrap();
            assert_eq!(image.id, made, "{action} {after}");
        }
    });
}

/// The image is there all the same.
#[test]
fn what_stays_of_the_way_in_is_in_the_journal() {
    under_moto("what_stays_of_the_way_in_is_in_the_journal", async || {
        let account = Account::new().await;
        let made = account.ec2.register_image().name("made").root_device_name("/dev/sda1").send().await;
        let told = format!("{REGION}:{}", made.unwrap().image_id.unwrap());
        let mut spec = account.spec();
        (spec.builder.login.keypair_name, spec.builder.login.private_key_path) = (None, None);
        let request = BuildRequest { share: true, ..account.request(Vec::new()) };
        account.fault(r#"{"action": "DeleteKeyPair", "status": 403, "code": "UnauthorizedOperation"}"#).await;
        account.build(liar(&account, &told), spec, &request).await.unwrap();
        assert_eq!(account.more().await.get("key_pairs"), Some(&1));
        let aws = Aws::new(AwsSettings::default(), account.dir.path().into());
        let swept = aws.recover(Some(REGION), How::Really, &CancellationToken::new()).await.unwrap();
        assert!(matches!(swept.as_slice(), [Swept::Removed(it)] if it.kind == Kind::KeyPair), "{swept:?}");
        assert_eq!(account.more().await.get("key_pairs"), None);
        assert_eq!(fs::read_dir(account.dir.path().join("journal")).unwrap().count(), 0);
    });
}

/// Of what the build writes, some finds no space: its key pair and group are gone, too.
async fn full_disk(account: &Account, spec: &AwsImageSpec, request: &BuildRequest) {
    let builds = account.dir.path().join("builds");
    for size in ["4k", "8k", "16k"] {
        let options = format!("size={size}");
        image::run("mount", &["-t", "tmpfs", "-o", &options, "none", builds.to_str().unwrap()]);
        let built = account.build(newer(), spec.clone(), request).await;
        image::run("umount", &["--lazy", builds.to_str().unwrap()]);
        let told = causes(&built.unwrap_err());
        let place = builds.to_str().unwrap();
        assert!(told.to_lowercase().contains("no space left") && told.contains(place), "{size}: {told}");
        assert_eq!(account.more().await, nothing(), "{size}");
    }
}

/// A machine for all instances: a user `builder`, who may become root.
struct Machine {
    _guest: Guest,
    _dir: tempfile::TempDir,
    session: Session,
    port: u16,
}

/// What stands for sudo, which the small Debian does not have: a shell with root's rights, which takes on all of root.
const SUDO: &str = "#!/bin/sh\n[ \"$1\" = -n ] && shift\nexport SUDO_USER=builder\n\
    exec /usr/local/bin/as-root -p -c 'exec setpriv --reuid 0 --regid 0 --clear-groups \"$@\"' sh \"$@\"\n";

impl Machine {
    async fn start(account: &Account) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let disk = debian::disk().await;
        let disk = disk.to_str().unwrap();
        let overlay = dir.path().join("disk.qcow2");
        image::run(
            "qemu-img",
            &["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", disk, overlay.to_str().unwrap()],
        );
        let public = ssh::public_key(&account.key()).unwrap();
        let spec = GuestSpec {
            id: Uuid::new_v4(),
            name: "ec2".into(),
            cpus: 1,
            memory_mb: 512,
            boot: Boot::Uefi,
            disks: vec![Disk {
                file: "disk.qcow2".into(),
                format: DiskFormat::Qcow2,
                access: DiskAccess::Fast,
            }],
            network: Network::User,
            forwards: vec![Forward::SSH],
            credentials: BTreeMap::new(),
            lifetime: Lifetime::WithProvider,
        };
        let emulator = Emulator::find(Arch::host().unwrap(), AcceleratorChoice::Auto).unwrap();
        let (spec, cancel) = (spec.admit("root", &public), CancellationToken::new());
        let guest = Guest::start(&spec, &emulator, dir.path(), &image::host().runner, &cancel).await.unwrap();
        let known_host = KnownHost { path: dir.path().join("known_hosts"), alias: "ec2".into() };
        let key = ssh::load(&account.key()).unwrap();
        let login = ssh::Login { username: "root".into(), key, known_host };
        let session = guest.connect(&login, &within(900)).await.unwrap();
        let port = guest.ssh_port().unwrap();
        let machine = Self { _guest: guest, _dir: dir, session, port };
        machine.run(&format!(
            "set -e; useradd -m -s /bin/sh builder; mkdir -m 700 /home/builder/.ssh; echo '{}' >/home/builder/.ssh/authorized_keys; cp /bin/dash /usr/local/bin/as-root; chmod 4755 /usr/local/bin/as-root; chown -R builder: /home/builder; cat >/usr/local/bin/sudo; chmod 755 /usr/local/bin/sudo",
            public.trim_end()
        )).await;
        machine
    }

    async fn run(&self, command: &str) -> String {
        let none = Environment::default();
        let exec = Exec { command, environment: &none, input: Input::Bytes(SUDO.as_bytes()) };
        let finished = self.session.exec(&exec, None, &within(600)).await.unwrap();
        assert_eq!(finished.code, 0, "{command}: {}", finished.output);
        finished.output.trim_end().to_owned()
    }
}

fn within(seconds: u64) -> Limits {
    Limits { cancel: CancellationToken::new(), timeout: Some(Duration::from_secs(seconds)) }
}

const HOSTILE: &str =
    "a 'b' \"c\" $(touch /canary) `touch /canary` ${x} {{ .Path }} {{`x`}} \\ %s\nsecond line\té";

fn steps(dir: &Path) -> Vec<Step> {
    let source = dir.join("file");
    fs::write(&source, "uploaded\n").unwrap();
    let mut hostile = image::inline(&["printf '%s|%s' \"$PLAIN\" \"$TOKEN\" >/srv/env", "id -un >/srv/who"]);
    hostile.environment.plain.insert("PLAIN".into(), HOSTILE.into());
    hostile.environment.secret.insert("TOKEN".into(), Secret::new(HOSTILE));
    let to = "/opt/new/file".to_owned();
    let upload = Action::Upload { source, destination: to, mode: Some(0o600), owner: None };
    vec![hostile, image::step(upload)]
}

#[test]
fn images_are_built_by_real_packers() {
    under_moto("images_are_built_by_real_packers", async || {
        let account = Account::new().await;
        let machine = Machine::start(&account).await;
        let mut spec = account.spec();
        spec.builder.login.port = Some(machine.port);

        // The oldest Packer, as a user who becomes root.
        let mut request = account.request(steps(account.dir.path()));
        request.spec.checks =
            vec![Check { name: "the file".into(), command: "grep -q up /opt/new/file".into() }];
        request.key = key(&request.spec);
        // It may not end its builder, and is content.
        account
            .fault(r#"{"action": "TerminateInstances", "status": 403, "code": "UnauthorizedOperation"}"#)
            .await;
        let image = account.build(oldest(), spec.clone(), &request).await.unwrap();
        assert!(account.log().contains("which Packer left"), "{}", account.log());
        assert_eq!(machine.run("cat /srv/env").await, format!("{HOSTILE}|{HOSTILE}"));
        let seen = machine.run("cat /srv/who; stat -c '%a %U' /opt/new/file; ls / /var/tmp /tmp").await;
        assert!(seen.starts_with("root\n600 root\n"), "{seen}");
        assert!(!seen.contains("canary") && !seen.contains("sindri"), "{seen}");
        whole(&account, &image, &request).await;

        // A step and a check that fail, in a newer one.
        let request = account.request(vec![image::inline(&["echo first; echo because; exit 7"])]);
        let error = account.build(newer(), spec.clone(), &request).await.unwrap_err();
        let told = causes(&error);
        let words = "provisioning step 1 (echo first; echo because; exit 7) failed with exit code 7";
        assert!(told.contains(words) && told.contains("because"), "{told}");
        let mut request = account.request(Vec::new());
        request.spec.checks = vec![Check { name: "never".into(), command: "echo so; exit 9".into() }];
        request.key = key(&request.spec);
        let error = account.build(oldest(), spec.clone(), &request).await.unwrap_err();
        assert!(causes(&error).contains("the check \"never\" failed with exit code 9"), "{}", causes(&error));

        // The user stops it.
        let request = account.request(vec![image::inline(&["echo now; sleep 600"])]);
        let (_, stopped) = tokio::join!(
            async {
                while !account.log().contains("image: now") {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                request.cancel.cancel();
            },
            account.build(newer(), spec.clone(), &request)
        );
        assert!(causes(&stopped.unwrap_err()).contains("cancelled"));

        // The steps are done, and EC2 makes no image of it.
        let request = account.request(Vec::new());
        for (code, message) in [
            ("InvalidAMIName.Duplicate", "AMI name is already in use"),
            ("SnapshotLimitExceeded", "Maximum allowed active snapshot limit exceeded."),
        ] {
            let fault = json!({ "action": "CreateImage", "times": 99, "status": 400, "code": code, "message": message });
            account.fault(&fault.to_string()).await;
            let error = account.build(oldest(), spec.clone(), &request).await.unwrap_err();
            assert!(causes(&error).contains(message), "{}", causes(&error));
        }
        // The image is there, and cannot be completed.
        account.fault(r#"{"action": "ModifyImageAttribute", "times": 99, "status": 400, "code": "InvalidParameterValue"}"#).await;
        let error = account.build(newer(), spec.clone(), &request).await.unwrap_err();
        assert!(causes(&error).contains("could not be completed"), "{}", causes(&error));
        account.fault(r#"{"action": "None"}"#).await;
        assert_eq!(account.more().await, one());

        keeps_the_builder(&account, &spec).await;
    });
}

/// A failing step leaves its builder, which then is no longer ours to count.
async fn keeps_the_builder(account: &Account, spec: &AwsImageSpec) {
    let mut request = account.request(vec![image::inline(&["exit 3"])]);
    request.spec.on_error = OnError::Keep;
    let error = account.build(oldest(), spec.clone(), &request).await.unwrap_err();
    let told = causes(&error);
    assert!(told.contains("failed with exit code 3") && told.contains("was left running"), "{told}");
    assert!(told.contains("builder@127.0.0.1") && told.contains("-i "), "{told}");
    let build = fs::read_dir(account.dir.path().join("builds")).unwrap().next().unwrap().unwrap();
    let files: Vec<_> = fs::read_dir(build.path()).unwrap().collect();
    assert!(files.is_empty(), "steps have secrets in them: {files:?}");
    let instance = told.split_whitespace().find(|word| word.starts_with("i-")).unwrap();
    let found = account.ec2.describe_instances().instance_ids(instance).send().await.unwrap();
    assert_eq!(found.reservations()[0].instances()[0].state().unwrap().name().unwrap().as_str(), "running");
    // The next build leaves it, a person who sweeps does not.
    let aws = Aws::new(AwsSettings::default(), account.dir.path().into());
    let never = CancellationToken::new();
    assert_eq!(aws.recover(Some(REGION), How::Really, &never).await.unwrap().len(), 0);
    assert_ne!(aws.recover(None, How::Really, &never).await.unwrap().len(), 0);
    assert_eq!(account.more().await, one());
    assert_eq!(fs::read_dir(account.dir.path().join("journal")).unwrap().count(), 0);
}

/// After a whole clean-up nobody gets into the guest again, so it is one of its own.
#[test]
fn the_plugin_of_today_and_a_whole_clean_up() {
    under_moto("the_plugin_of_today_and_a_whole_clean_up", async || {
        let account = Account::new().await;
        let machine = Machine::start(&account).await;
        let mut spec = account.spec();
        spec.builder.login.port = Some(machine.port);
        let plugin = with_plugin(&account);
        let mut request = account.request(Vec::new());
        request.spec.security = Security { clean_sensitive_data: true, remove_ssh_host_keys: true };
        request.key = key(&request.spec);
        let image = account.build(plugin, spec, &request).await.unwrap();
        assert!(account.log().contains("Packer 1.11.2"), "{}", account.log());
        assert_eq!(machine.run("cat /etc/machine-id; ls /etc/ssh | grep host || true").await, "");
        assert_eq!(
            machine.run("cat /home/builder/.ssh/authorized_keys").await,
            "",
            "somebody's key is in the image"
        );
        whole(&account, &image, &request).await;
    });
}

fn one() -> BTreeMap<String, usize> {
    [("images".to_owned(), 1), ("snapshots".to_owned(), 1)].into()
}

/// An image that is complete, and nothing beside it.
async fn whole(account: &Account, image: &Image, request: &BuildRequest) {
    assert_eq!(account.more().await, one());
    let found = account.ec2.describe_images().image_ids(&image.id).send().await.unwrap();
    let ami = &found.images()[0];
    let tag = |key: &str| {
        let found = ami.tags().iter().find(|tag| tag.key() == Some(key));
        found.map(|tag| tag.value().unwrap_or_default().to_owned())
    };
    assert_eq!(tag("sindri_key").as_deref(), Some(request.key.as_str()));
    assert_eq!(tag(&format!("sindri_holder_{}", request.holder)).as_deref(), Some("held"));
    assert_eq!(tag("sindri_base"), Some(account.source.clone()));
    assert_eq!(tag("sindri_channel_production").as_deref(), Some("promoted"));
    assert_eq!((tag("team").as_deref(), tag("odd {{ .x").as_deref()), (Some("web"), Some("{{`}} ${a}")));
    assert!(tag("sindri_build").is_some() && tag("sindri_deadline").is_none());
    assert_eq!((ami.description(), ami.imds_support().unwrap().as_str()), (Some("for people"), "v2.0"));
    let name = image.name.strip_prefix(&format!("test-{}-", &request.key.as_str()[..12])).unwrap();
    assert_eq!(name.len(), 6);
    let snapshots = account.ec2.describe_snapshots().snapshot_ids(&image.artifacts[REGION].snapshot_ids[0]);
    let snapshots = snapshots.send().await.unwrap();
    let keys: BTreeSet<&str> = snapshots.snapshots()[0].tags().iter().filter_map(|tag| tag.key()).collect();
    assert!(keys.contains("team") && keys.contains("sindri_build"), "{keys:?}");
    assert!(!keys.contains("sindri_deadline") && !keys.contains("sindri_key"), "{keys:?}");
    assert_eq!(image.resolved_base.as_ref(), Some(&account.source));
    assert!(image.log_path.as_ref().unwrap().is_file());
    let again = Arc::new(Aws::new(AwsSettings::default(), "/nonexistent".into())).images(Some(REGION));
    assert_eq!(again.find(&request.key).await.unwrap()[0].id, image.id);
    // Nothing is in a process list or a log that tells our credentials; the key came last.
    assert!(!account.log().contains("AWS_SECRET"));
}
