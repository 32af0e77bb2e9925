//! What the tests of image builds share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use sindri::backends::qemu::host::AcceleratorChoice;
use sindri::backends::qemu::image::{Build, BuildError, BuiltImage, Host, build};
use sindri::backends::qemu::{Arch, Base, Bootstrap, DiskFormat, Engine, Network, QemuImageSpec};
use sindri::domain::{Action, Environment, ImageSpec, OnError, Security, Step};
use sindri::process::{BuildLog, Redactor, Runner, Secret};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::in_time;

/// A secret that must be found nowhere.
pub(crate) const CANARY: &str = "canary-7f3a9c\"$(touch /canary)";

/// How a private key begins after the line "BEGIN OPENSSH PRIVATE KEY", which stands in OpenSSH's programs, too.
const PRIVATE_KEY: &str = "b3BlbnNzaC1rZXktdjEA";

/// How each public key begins that is of the builder's kind, ed25519.
const PUBLIC_KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAI";

pub(crate) fn host() -> Host {
    Host {
        runner: Runner::new(env!("CARGO_BIN_EXE_terraform-provider-sindri")),
        cache_dir: cache_dir(),
        accelerator: AcceleratorChoice::Auto,
        etc_apt: PathBuf::from("/etc/apt"),
        packer: sindri::packer::Settings::default(),
    }
}

/// The scenarios' own, so that a layer is bootstrapped once for both and outlives a checkout.
fn cache_dir() -> PathBuf {
    acceptance_tests::cache_home().join("sindri")
}

pub(crate) fn step(action: Action) -> Step {
    Step { action, environment: Environment::default(), user: None, timeout: None }
}

pub(crate) fn inline(lines: &[&str]) -> Step {
    step(Action::Inline(lines.iter().map(|line| (*line).to_owned()).collect()))
}

pub(crate) fn image(steps: Vec<Step>) -> ImageSpec {
    ImageSpec {
        name_prefix: "test".into(),
        environment: Environment {
            plain: BTreeMap::from([("PLAIN".into(), "a b\"c".into())]),
            secret: BTreeMap::from([("TOKEN".into(), Secret::new(CANARY))]),
        },
        steps,
        security: Security { clean_sensitive_data: true, remove_ssh_host_keys: true },
        checks: Vec::new(),
        on_error: OnError::Cleanup,
    }
}

/// A small system of the host's own distribution and architecture. Uncompressed: most tests are not of compression, which
/// takes seconds.
pub(crate) fn small() -> QemuImageSpec {
    let bootstrap = Bootstrap {
        suite: acceptance_tests::suite().unwrap(),
        mirror: None,
        security_mirror: None,
        snapshot: None,
        packages: Vec::new(),
    };
    QemuImageSpec {
        base: Base::Bootstrap(bootstrap),
        arch: Arch::host().unwrap(),
        disk_size_gb: 4,
        memory_mb: 1024,
        cpus: 1,
        format: DiskFormat::Qcow2,
        compress: false,
        network: Network::User,
        boot: false,
        engine: Engine::Native,
    }
}

/// A folder for builds, with a log.
pub(crate) struct Site {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) log: BuildLog,
    pub(crate) cancel: CancellationToken,
}

impl Site {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let redactor = Redactor::new([&Secret::new(CANARY)]);
        let log = BuildLog::create(&dir.path().join("logs"), "test", "1", redactor).unwrap();
        Self { dir, log, cancel: CancellationToken::new() }
    }

    /// Builds, and checks what holds for every build: nothing stays but a finished image.
    pub(crate) async fn build(
        &self,
        spec: &ImageSpec,
        qemu: &QemuImageSpec,
    ) -> Result<BuiltImage, BuildError> {
        self.build_on(&host(), spec, qemu).await
    }

    /// The same with other settings of this computer.
    pub(crate) async fn build_on(
        &self,
        host: &Host,
        spec: &ImageSpec,
        qemu: &QemuImageSpec,
    ) -> Result<BuiltImage, BuildError> {
        let id = Uuid::new_v4();
        let work_dir = self.dir.path().join(id.to_string());
        let (log, cancel) = (&self.log, &self.cancel);
        let work = Build { id, spec, qemu, host, work_dir: &work_dir, log, cancel };
        let built = in_time(build(&work), || self.log_text()).await;
        self.show_log();
        assert!(!self.log_text().contains(CANARY), "a secret in the log");
        assert!(!host.cache_dir.join(format!("trees/area/work/{id}")).exists(), "the build's tree stays");
        match &built {
            Ok(image) => {
                let files: Vec<_> =
                    std::fs::read_dir(&work_dir).unwrap().map(|it| it.unwrap().path()).collect();
                assert_eq!(files, std::slice::from_ref(&image.disk), "only the image stays");
            }
            Err(BuildError::Kept { .. }) => {}
            Err(_) => assert!(!work_dir.exists(), "the work folder stays"),
        }
        built
    }

    /// For whoever looks at a test that failed.
    fn show_log(&self) {
        println!("{}", self.log_text());
    }

    pub(crate) fn log_text(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }
}

/// Where the builder's layout has the root file system, behind the ESP.
const ROOT_AT: u64 = 257 << 20;

/// A finished disk, to be looked into without booting it.
pub(crate) struct Inside {
    dir: tempfile::TempDir,
}

impl Inside {
    /// Unpacks the disk; its two partitions are looked into where they are.
    pub(crate) fn of(image: &BuiltImage) -> Self {
        Self::of_disk(&image.disk, image.format)
    }

    /// The same for the disk alone.
    pub(crate) fn of_disk(disk: &Path, format: DiskFormat) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let raw = dir.path().join("disk.raw");
        let (disk, raw) = (disk.to_str().unwrap(), raw.to_str().unwrap());
        run("qemu-img", &["convert", "-f", format.name(), "-O", "raw", disk, raw]);
        assert!(run("sgdisk", &["--verify", raw]).contains("No problems found"));
        let inside = Self { dir };
        run("e2fsck", &["-fn", &inside.root()]);
        inside
    }

    /// The root file system, as e2fsprogs call it.
    fn root(&self) -> String {
        format!("{}?offset={ROOT_AT}", self.path("disk.raw").display())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file of the root file system.
    pub(crate) fn cat(&self, path: &str) -> String {
        self.debugfs(&format!("cat {path}"))
    }

    /// Puts a file into a folder of the root file system, which is made.
    pub(crate) fn put(&self, folder: &str, name: &str, content: &str) {
        let (from, requests) = (self.path("put"), self.path("requests"));
        std::fs::write(&from, content).unwrap();
        let lines = format!("mkdir {folder}\ncd {folder}\nwrite {} {name}\n", from.display());
        std::fs::write(&requests, lines).unwrap();
        run("debugfs", &["-w", "-f", requests.to_str().unwrap(), &self.root()]);
        assert_eq!(self.cat(&format!("{folder}/{name}")), content);
    }

    /// A file of the root file system, as a file here.
    pub(crate) fn dump(&self, path: &str) -> PathBuf {
        let to = self.path("dumped");
        self.debugfs(&format!("dump {path} {}", to.display()));
        to
    }

    /// The names in a folder of the root file system; empty when there is none.
    pub(crate) fn list(&self, path: &str) -> Vec<String> {
        let listing = self.debugfs(&format!("ls -p {path}"));
        let names = listing.lines().filter_map(|line| line.split('/').nth(5));
        names.filter(|name| !matches!(*name, "" | "." | "..")).map(str::to_owned).collect()
    }

    pub(crate) fn debugfs(&self, request: &str) -> String {
        run("debugfs", &["-R", request, &self.root()])
    }

    /// Whether the text stands anywhere on the disk, in a file or in a block that was one's.
    pub(crate) fn contains(&self, needle: &str) -> bool {
        let disk = self.path("disk.raw");
        // Where zeros end lines, a disk's holes are not one line of gigabytes.
        let found = Command::new("grep").args(["-qzaF", "--", needle]).arg(disk).status().unwrap();
        found.success()
    }
}

pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{program} {args:?}: {error} {out}");
    out.into_owned()
}

/// What an image must not carry.
pub(crate) fn assert_clean(inside: &Inside) {
    assert_eq!(inside.cat("/etc/machine-id"), "");
    let folders = [
        "/var/lib/cloud",
        "/var/log/journal",
        "/var/lib/apt/lists",
        "/tmp",
        "/var/tmp",
        "/root/.ssh",
        "/root/.cache",
        "/run",
    ];
    for folder in folders {
        assert_eq!(inside.list(folder), [""; 0], "{folder}");
    }
    let absent = |folder: &str, bad: fn(&str) -> bool| {
        let found: Vec<String> = inside.list(folder).into_iter().filter(|name| bad(name)).collect();
        assert_eq!(found, [""; 0], "{folder}");
    };
    absent("/etc/ssh", |name| name.starts_with("ssh_host_"));
    absent("/var/lib/systemd", |name| matches!(name, "random-seed" | "credential.secret"));
    absent("/root", |name| name.ends_with("_history") || name.starts_with(".lesshst"));
    absent("/usr/sbin", |name| name == "policy-rc.d");
    absent("/etc", |name| name.ends_with('-') || name.contains("resolv.conf."));
    assert!(inside.debugfs("stat /etc/hostname").contains("Mode:  0644"), "the builder's mode");
    // What cloud-init makes of a builder's network and of its user.
    for folder in ["/etc/netplan", "/etc/network/interfaces.d", "/etc/systemd/network", "/etc/sudoers.d"] {
        absent(folder, |name| name.contains("cloud-init"));
    }
    absent("/etc/cloud", |name| name == "sindri-builder");
    absent("/etc/apt/apt.conf.d", |name| name == "99mmdebstrap");
    absent("/etc/dpkg/dpkg.cfg.d", |name| name == "99mmdebstrap");
    let shadow = inside.cat("/etc/shadow");
    let root = shadow.lines().find(|line| line.starts_with("root:")).unwrap();
    assert!(root.starts_with("root:*") || root.starts_with("root:!"), "root can log in with a password");
    for log in ["/var/log/dpkg.log", "/var/log/apt/history.log", "/var/log/apt/term.log", "/var/log/wtmp"] {
        assert_eq!(inside.cat(log), "", "{log}");
    }
    assert!(!inside.contains(CANARY), "a secret on the disk");
    assert!(!inside.contains(PRIVATE_KEY), "somebody's private key on the disk");
    assert!(!inside.contains(PUBLIC_KEY), "the builder's or another public key on the disk");
}
