//! Machines on this computer, from a real image: launched, looked at, stopped, changed, destroyed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sindri::backends::qemu::guest::console;
use sindri::backends::qemu::host::AcceleratorChoice;
use sindri::backends::qemu::store::{Fingerprint, Metadata, Store};
use sindri::backends::qemu::sweep::Sweep;
use sindri::backends::qemu::vm::{Port, Protocol, QemuVmSpec};
use sindri::backends::qemu::{Arch, DiskFormat, ForeignStore, Local};
use sindri::domain::cache_key::{CacheKey, KeyInputs};
use sindri::domain::vm::host_key_alias;
use sindri::domain::vm_spec::{PowerState, SshAccess, VmSpec, WaitFor};
use sindri::domain::{
    BackendError, Environment, Holder, ImageSpec, Labels, OnError, Security, Vm, VmBackend, VmLauncher,
    VmRequest,
};
use sindri::process::Secret;
use sindri::ssh::LoginCommand;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::image::Inside;
use crate::support::{debian, image, in_time};

/// A store with one image in it.
struct House {
    _dir: tempfile::TempDir,
    local: Arc<Local>,
    image: String,
}

impl Drop for House {
    /// A test that fails leaves no machine behind either.
    fn drop(&mut self) {
        for entry in fs::read_dir(self.local.store.vms()).into_iter().flatten().flatten() {
            processes(&entry.file_name().to_string_lossy()).iter().for_each(|pid| kill(pid));
        }
    }
}

impl House {
    async fn new() -> Self {
        // Where hard links to the image's disk can be made.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let store = Store::at(dir.path().join("data"));
        let image = store_image(&store, &debian::disk().await);
        let local = Arc::new(Local {
            store,
            cache_dir: dir.path().join("cache"),
            accelerator: AcceleratorChoice::Auto,
            foreign_store: ForeignStore::Error,
            runner: image::host().runner,
            packer: sindri::packer::Settings::default(),
            bases: Default::default(),
        });
        Self { _dir: dir, local, image }
    }

    async fn create(&self, request: &VmRequest, shape: &QemuVmSpec) -> Result<Vm, BackendError> {
        let launcher = self.local.launcher(shape.clone());
        let (mut in_state, cancel) = (|_: &Vm| {}, CancellationToken::new());
        in_time(launcher.create(request, &mut in_state, &cancel), || self.consoles()).await
    }

    async fn update(&self, id: &str, request: &VmRequest, shape: &QemuVmSpec) -> Result<Vm, BackendError> {
        let (launcher, cancel) = (self.local.launcher(shape.clone()), CancellationToken::new());
        in_time(launcher.update(id, request, &cancel), || self.consoles()).await
    }

    /// The end of each machine's.
    fn consoles(&self) -> String {
        let machines = fs::read_dir(self.local.store.vms()).into_iter().flatten().flatten();
        machines.map(|it| format!("{}\n", console::tail(&it.path()))).collect()
    }

    async fn status(&self, id: &str) -> PowerState {
        VmBackend::get(&*self.local, id).await.unwrap().status
    }

    async fn destroy(&self, id: &str) {
        VmBackend::destroy(&*self.local, id, &CancellationToken::new()).await.unwrap();
    }

    fn folder(&self, id: &str) -> PathBuf {
        self.local.store.vms().join(id)
    }

    fn request(&self) -> VmRequest {
        let ssh = SshAccess {
            username: "ann".into(),
            public_key: None,
            private_key_path: None,
            host: None,
            port: None,
        };
        VmRequest {
            spec: VmSpec {
                name: "dev".into(),
                power_state: PowerState::Running,
                user_data: None,
                user_data_is_secret: false,
                ssh,
                wait_for: WaitFor::None,
                tags: BTreeMap::new(),
            },
            image_id: self.image.clone(),
            inputs: serde_json::json!({}),
            managed_tags: BTreeSet::new(),
            deadline: chrono::Utc::now() + chrono::TimeDelta::hours(1),
            stop: CancellationToken::new(),
        }
    }
}

fn shape() -> QemuVmSpec {
    let arch = Arch::host().unwrap();
    QemuVmSpec { arch, cpus: 1, memory_mb: 512, disk_size_gb: None, ports: BTreeMap::new() }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn store_image(store: &Store, disk: &Path) -> String {
    let spec = ImageSpec {
        name_prefix: "debian".into(),
        environment: Environment::default(),
        steps: Vec::new(),
        security: Security { clean_sensitive_data: true, remove_ssh_host_keys: true },
        checks: Vec::new(),
        on_error: OnError::Cleanup,
    };
    let inputs = KeyInputs {
        secrets_version: None,
        step_secrets_versions: Vec::new(),
        triggers: BTreeMap::new(),
        target: serde_json::Value::Null,
    };
    let id = Uuid::new_v4();
    let partial = store.begin(id).unwrap();
    let path = partial.dir().join("disk.qcow2");
    fs::hard_link(disk, &path).unwrap();
    let metadata = Metadata {
        name: "debian".into(),
        cache_key: CacheKey::of(&spec, &inputs).unwrap(),
        disk: "disk.qcow2".into(),
        format: "qcow2".into(),
        sha256: "0".repeat(64),
        fingerprint: Fingerprint::of(&path).unwrap(),
        resolved_base: "debian".into(),
        created_at: chrono::Utc::now(),
        build_seconds: 1,
        log_path: PathBuf::from("/dev/null"),
        labels: Labels::default(),
        inputs: serde_json::Value::Null,
    };
    store.commit(id, &metadata, &Holder::random()).unwrap().id
}

/// The command that logs in, as state has it.
fn login(vm: &Vm) -> String {
    let login = vm.login.as_ref().unwrap();
    let alias = host_key_alias(&vm.id);
    let command = LoginCommand {
        host: vm.ssh_host.as_deref().unwrap(),
        port: login.port,
        username: &login.username,
        private_key: login.private_key_path.as_deref(),
        known_host: login.known_hosts_path.as_deref().map(|file| (file, alias.as_str())),
    };
    command.line()
}

/// What the user's own ssh prints, by the command that we hand out.
fn ssh(vm: &Vm, command: &str) -> String {
    let login = login(vm);
    let line = format!("{login} \"$0\"");
    let output = Command::new("timeout").args(["300", "sh", "-c", &line, command]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{login}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The ids of the machine's processes.
fn processes(id: &str) -> Vec<String> {
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let ours = |pid: &String| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&format!("-uuid\0{id}"))
    };
    fs::read_dir("/proc").into_iter().flatten().flatten().map(name).filter(ours).collect()
}

fn kill(pid: &str) {
    let _ = Command::new("kill").args(["-9", pid]).status();
}

fn kill_qemu(id: &str) {
    let found = processes(id);
    assert_eq!(found.len(), 1);
    kill(&found[0]);
    while !processes(id).is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Nothing that others may read.
fn assert_private(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        let image = entry.file_name().to_string_lossy().starts_with("image.");
        assert!(mode & 0o077 == 0 || image || entry.file_name() == "qmp.sock", "{entry:?}: {mode:o}");
    }
    assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn a_machine_from_launch_to_destroy() {
    let house = House::new().await;
    let canary = "canary $(touch /canary) \"'";
    let mut request = house.request();
    request.spec.wait_for = WaitFor::CloudInit;
    request.spec.user_data = Some(Secret::new(format!(
        "#cloud-config\nwrite_files:\n- path: /etc/canary\n  content: |\n    {canary}\n"
    )));
    request.spec.power_state = PowerState::Stopped;
    let mut shape = shape();
    let web = Port { guest: 8000, host: free_port(), protocol: Protocol::Tcp };
    shape.ports.insert("web".into(), web);

    let mut seen = Vec::new();
    let launcher = house.local.launcher(shape.clone());
    let vm = launcher
        .create(&request, &mut |vm: &Vm| seen.push(vm.clone()), &CancellationToken::new())
        .await
        .unwrap();
    assert_eq!((seen.len(), seen[0].id.as_str()), (1, vm.id.as_str()), "known before it was there");
    assert_eq!((vm.status, processes(&vm.id).len()), (PowerState::Stopped, 0));

    // The image may go, and there may be more memory and disk.
    fs::remove_dir_all(house.local.store.root().join("images")).unwrap();
    request.spec.power_state = PowerState::Running;
    (shape.memory_mb, shape.disk_size_gb) = (640, Some(6));
    let start = Instant::now();
    let vm = house.update(&vm.id, &request, &shape).await.unwrap();
    println!("started, cloud-init done after {:?}", start.elapsed());
    assert_eq!(vm.status, PowerState::Running);
    let told = ssh(
        &vm,
        "id -un; hostname; cat /etc/canary; sudo lsblk -bdno SIZE /dev/vda; grep MemTotal: /proc/meminfo",
    );
    let mut lines = told.lines();
    let mut told = || lines.next().unwrap();
    assert_eq!([told(), told(), told(), told()], ["ann", "dev", canary, "6442450944"]);
    let memory: u64 = told().split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!((513 << 10..640 << 10).contains(&memory), "{memory} KiB");

    // The user's port leads in, and to loopback alone.
    ssh(&vm, "echo hello >hello; setsid -f python3 -m http.server 8000 >/dev/null 2>&1 </dev/null");
    let page = format!("http://127.0.0.1:{}/hello", web.host);
    // An emulated guest takes its time to start a server.
    let patiently = ["-fsS", "--max-time", "30", "--retry", "60", "--retry-all-errors", "--retry-delay", "1"];
    let fetched = Command::new("curl").args(patiently).arg(page).output();
    assert_eq!(String::from_utf8(fetched.unwrap().stdout).unwrap(), "hello\n");

    assert_private(&house.folder(&vm.id));

    // Off and on again, with another processor: same port, same key.
    request.spec.power_state = PowerState::Stopped;
    let start = Instant::now();
    let off = house.update(&vm.id, &request, &shape).await.unwrap();
    println!("stopped after {:?}", start.elapsed());
    assert_eq!((off.status, processes(&vm.id).len()), (PowerState::Stopped, 0));
    assert_eq!(house.status(&vm.id).await, PowerState::Stopped);
    let inside = Inside::of_disk(&house.folder(&vm.id).join("disk.qcow2"), DiskFormat::Qcow2);
    assert_eq!(inside.cat("/home/ann/hello"), "hello\n");
    request.spec.power_state = PowerState::Running;
    request.spec.wait_for = WaitFor::None;
    shape.cpus = 2;
    let on = house.update(&vm.id, &request, &shape).await.unwrap();
    assert_eq!((on.status, &on.login), (PowerState::Running, &vm.login));
    let line = fs::read_to_string(format!("/proc/{}/cmdline", processes(&vm.id)[0])).unwrap();
    assert!(line.contains("\0-smp\x002\0"), "{line:?}");

    // Killed from outside: stopped. Destroyed twice: gone.
    kill_qemu(&vm.id);
    assert_eq!(house.status(&vm.id).await, PowerState::Stopped);
    shape.disk_size_gb = Some(3);
    let error = house.update(&vm.id, &request, &shape).await.unwrap_err();
    assert!(
        matches!(&error, BackendError::Refused { attribute, .. } if attribute == "qemu.disk_size_gb"),
        "{error}"
    );
    house.destroy(&vm.id).await;
    assert!(!house.folder(&vm.id).exists());
    house.destroy(&vm.id).await;
    assert!(VmBackend::get(&*house.local, &vm.id).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn ports_that_are_taken_are_named() {
    let house = House::new().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut shape = shape();
    shape.ports.insert("web".into(), Port { guest: 80, host: port, protocol: Protocol::Tcp });
    let error = house.create(&house.request(), &shape).await.unwrap_err();
    let BackendError::Refused { attribute, problem } = &error else { panic!("{error}") };
    assert_eq!(attribute, "qemu.ports.web.host");
    assert!(problem.contains(&format!("port {port} of 127.0.0.1 is in use")), "{problem}");

    // Another protocol is another port; the failed machine can be destroyed.
    let left: Vec<_> = fs::read_dir(house.local.store.vms()).unwrap().flatten().collect();
    for entry in left {
        house.destroy(entry.file_name().to_str().unwrap()).await;
    }
    shape.ports.insert("web".into(), Port { guest: 80, host: port, protocol: Protocol::Udp });
    let vm = house.create(&house.request(), &shape).await.unwrap();

    // A change that is refused leaves a running machine running.
    let before = processes(&vm.id);
    shape.ports.insert("web".into(), Port { guest: 80, host: port, protocol: Protocol::Tcp });
    let error = house.update(&vm.id, &house.request(), &shape).await.unwrap_err();
    assert!(error.to_string().contains("is in use"), "{error}");
    shape.ports.clear();
    shape.disk_size_gb = Some(1);
    let error = house.update(&vm.id, &house.request(), &shape).await.unwrap_err();
    assert!(error.to_string().contains("set `disk_size_gb` to at least 4"), "{error}");
    assert_eq!(processes(&vm.id), before);
    drop(taken);

    // A running machine whose folder somebody removed is gone for Read; destroy still ends its process.
    assert_eq!(processes(&vm.id).len(), 1);
    fs::remove_dir_all(house.folder(&vm.id)).unwrap();
    assert!(VmBackend::get(&*house.local, &vm.id).await.unwrap_err().is_not_found());
    house.destroy(&vm.id).await;
    assert_eq!(processes(&vm.id).len(), 0);
}

#[tokio::test]
async fn two_at_once_and_a_killed_create() {
    let house = House::new().await;
    let mut request = house.request();
    let vm = house.create(&request, &shape()).await.unwrap();

    // Two applies on one machine take turns; a third that deletes it waits for both.
    request.spec.power_state = PowerState::Stopped;
    let (stop, off) = (house.request(), shape());
    let stop = VmRequest { spec: VmSpec { power_state: PowerState::Stopped, ..stop.spec.clone() }, ..stop };
    kill_qemu(&vm.id);
    let (first, second) =
        tokio::join!(house.update(&vm.id, &stop, &off), house.update(&vm.id, &request, &off));
    assert_eq!(first.unwrap().status, PowerState::Stopped);
    assert_eq!(second.unwrap().status, PowerState::Stopped);

    // A create that was killed: the state never heard of it. The next create removes it, and
    // leaves what is known alone.
    let mut orphan = String::new();
    let mut started = house.request();
    started.spec.wait_for = WaitFor::Ssh;
    let launcher = house.local.launcher(shape());
    let cancel = CancellationToken::new();
    {
        let mut exists = |vm: &Vm| orphan = vm.id.clone();
        let create = launcher.create(&started, &mut exists, &cancel);
        tokio::pin!(create);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(3) {
            let _ = tokio::time::timeout(Duration::from_millis(100), &mut create)
                .await
                .map(|_| panic!("too fast"));
        }
        // Dropped here, as a killed provider would drop it.
    }
    assert_eq!(processes(&orphan).len(), 1);
    let left = house.local.sweep(Sweep::DryRun, &CancellationToken::new()).await.unwrap();
    assert_eq!(left, [house.folder(&orphan)]);
    let mut next = house.request();
    next.spec.power_state = PowerState::Stopped;
    let next = house.create(&next, &shape()).await.unwrap();
    house.destroy(&next.id).await;
    assert_eq!((processes(&orphan).len(), house.folder(&orphan).exists()), (0, false));
    assert_eq!(house.status(&vm.id).await, PowerState::Stopped);
    house.destroy(&vm.id).await;
    assert_eq!(fs::read_dir(house.local.store.vms()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_create_that_is_cancelled_or_cannot_be() {
    let house = House::new().await;
    let mut request = house.request();
    request.spec.wait_for = WaitFor::Ssh;
    let launcher = house.local.launcher(shape());
    let cancel = CancellationToken::new();
    let mut id = String::new();
    let stop = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        cancel.cancel();
    };
    let start = Instant::now();
    let mut exists = |vm: &Vm| id = vm.id.clone();
    let (created, ()) = tokio::join!(launcher.create(&request, &mut exists, &cancel), stop);
    assert!(created.is_err());
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    // Nothing is left of it.
    assert_eq!((processes(&id).len(), house.folder(&id).exists()), (0, false));

    request.image_id = Uuid::new_v4().to_string();
    let error = house.create(&request, &shape()).await.unwrap_err();
    assert!(matches!(&error, BackendError::Refused { attribute, .. } if attribute == "image_id"), "{error}");
    assert!(fs::read_dir(house.local.store.vms()).unwrap().next().is_none());

    let mut small = shape();
    small.disk_size_gb = Some(1);
    let error = house.create(&house.request(), &small).await.unwrap_err();
    assert!(error.to_string().contains("set `disk_size_gb` to at least 4"), "{error}");
}
