//! Images built on EC2 by real Packers, whose steps run in a guest of our own behind the rig's instances.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sindri::backends::aws::image::AwsImageSpec;
use sindri::backends::aws::sweep::How;
use sindri::backends::aws::{Aws, AwsSettings};
use sindri::backends::qemu::guest::{Disk, DiskAccess, Forward, Guest, GuestSpec, Lifetime};
use sindri::backends::qemu::host::{AcceleratorChoice, Emulator};
use sindri::backends::qemu::{DiskFormat, Network};
use sindri::domain::causes;
use sindri::domain::{
    Action, Arch, BuildRequest, Check, Environment, Image, ImageBackend, OnError, Security, Step,
};
use sindri::process::{Limits, Secret};
use sindri::ssh::{self, Exec, Input, KnownHost, Session};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::aws_build::{Account, REGION, key, newer, oldest, with_plugin};
use crate::support::moto::under_moto;
use crate::support::{debian, image, meanwhile};

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
        let mut guest =
            Guest::start(&spec, &emulator, dir.path(), &image::host().runner, &cancel).await.unwrap();
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
        let mut account = Account::new().await;
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

        // A step that takes too long.
        let mut late = image::inline(&["echo soon; sleep 600"]);
        // Long enough for an emulated guest to start the step, whatever else runs here.
        late.timeout = Some(Duration::from_secs(20));
        let request = account.request(vec![late]);
        let error = account.build(oldest(), spec.clone(), &request).await.unwrap_err();
        let told = causes(&error);
        let words =
            "step 1 (echo soon; sleep 600) was stopped after 20s, its `timeout`; its last lines were:\nsoon";
        assert!(told.contains(words), "{told}");

        // The user stops it.
        let request = account.request(vec![image::inline(&["echo now; sleep 600"])]);
        let stop = async {
            while !account.log().contains("image: now") {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            request.cancel.cancel();
        };
        let (stopped, _) = meanwhile(account.build(newer(), spec.clone(), &request), stop).await;
        let told = causes(&stopped.unwrap_err());
        assert!(told.contains("cancelled"), "{told}");

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
        account.begin_anew().await;
        cleans_up(&account, &machine).await;
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

/// The plugin of today and a whole clean-up, after which nobody gets into the guest again.
async fn cleans_up(account: &Account, machine: &Machine) {
    let mut spec = account.spec();
    spec.builder.login.port = Some(machine.port);
    let plugin = with_plugin(account);
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
    whole(account, &image, &request).await;
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
