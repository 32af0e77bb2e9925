//! What a build on EC2 checks, asks for and leaves, against the rig's EC2.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
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
use sindri::domain::cache_key::KeyInputs;
use sindri::domain::causes;
use sindri::domain::{
    Action, Arch, BackendError, BuildRequest, Built, CacheKey, Holder, Image, ImageBackend, ImageBuilder,
    ImageSpec, Labels, OnError, Security, Step,
};
use sindri::packer::Settings;
use sindri::ssh;
use tokio_util::sync::CancellationToken;

use crate::support::moto::under_moto;
use crate::support::{image, in_time};

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

    /// Takes what there is now for what there was in the beginning.
    pub(crate) async fn begin_anew(&mut self) {
        self.before = self.inventory().await;
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

    pub(crate) async fn build(
        &self,
        packer: Settings,
        spec: AwsImageSpec,
        request: &BuildRequest,
    ) -> Result<Image, BackendError> {
        let aws = Arc::new(Aws::new(AwsSettings::default(), self.dir.path().into()));
        let host = image::host();
        let tools = Tools { runner: host.runner, packer, cache_dir: self.dir.path().join("cache") };
        let built = in_time(aws.builder(spec, tools).build(request), || self.log()).await;
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

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("logs/latest-test.log")).unwrap_or_default()
    }
}

pub(crate) fn key(spec: &ImageSpec) -> CacheKey {
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
