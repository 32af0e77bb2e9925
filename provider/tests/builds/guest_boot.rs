//! Real guests, from a real image: up, commands, files, the end. How they restart is in `image_network`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use sindri::backends::qemu::guest::{
    Disk, DiskAccess, Forward, Guest, GuestError, GuestSpec, Lifetime, console, kill,
};
use sindri::backends::qemu::host::{Accelerator, AcceleratorChoice, Emulator};
use sindri::backends::qemu::{Arch, DiskFormat, Network};
use sindri::domain::Environment;
use sindri::process::{BuildLog, Limits, Redactor, Secret};
use sindri::ssh::{self, Exec, Input, KnownHost, Login};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{debian, image};

fn emulator(choice: AcceleratorChoice) -> Emulator {
    Emulator::find(Arch::host().unwrap(), choice).unwrap()
}

fn within(seconds: u64) -> Limits {
    Limits { cancel: CancellationToken::new(), timeout: Some(Duration::from_secs(seconds)) }
}

/// A guest on a throw-away overlay of the image, and the way in as root without cloud-init.
async fn prepare(dir: &Path) -> (GuestSpec, Login) {
    let image = debian::disk().await;
    overlay(&image, &dir.join("disk.qcow2"));
    let key = dir.join("id_ed25519");
    let public = ssh::generate(&key, "test").unwrap();
    let spec = GuestSpec {
        id: Uuid::new_v4(),
        name: "test".into(),
        cpus: 1,
        memory_mb: 512,
        disks: vec![Disk { file: "disk.qcow2".into(), format: DiskFormat::Qcow2, access: DiskAccess::Fast }],
        network: Network::User,
        forwards: vec![Forward::SSH],
        credentials: BTreeMap::new(),
        lifetime: Lifetime::WithProvider,
    };
    let known_host = KnownHost { path: dir.join("known_hosts"), alias: "test".into() };
    let login = Login { username: "root".into(), key: ssh::load(&key).unwrap(), known_host };
    (spec.admit("root", &public), login)
}

fn overlay(image: &Path, disk: &Path) {
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
        .args([image, disk])
        .status()
        .unwrap();
    assert!(made.success());
}

fn is_running(id: Uuid) -> bool {
    let mut found = false;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        found |= line.contains("qemu-system") && line.contains(&id.to_string());
    }
    found
}

#[tokio::test]
async fn a_guest_comes_up_works_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (spec, login) = prepare(dir.path()).await;
    let emulator = emulator(AcceleratorChoice::Auto);
    let start = Instant::now();
    let cancel = CancellationToken::new();
    let mut guest = Guest::start(&spec, &emulator, dir.path(), &image::host().runner, &cancel).await.unwrap();
    println!("{:?}: QEMU runs after {:?}", emulator.accelerator, start.elapsed());
    let session = guest.connect(&login, &within(600)).await.unwrap();
    println!("logged in after {:?}", start.elapsed());

    // What a build does: an environment, a script on stdin, output line by line, an exit code.
    let canary = "hunter2 \"$(touch /canary)\"\n'x'";
    let log = BuildLog::create(dir.path(), "t", "1", Redactor::new([&Secret::new(canary)])).unwrap();
    let mut environment = Environment::default();
    environment.plain.insert("PLAIN".into(), "a b".into());
    environment.secret.insert("TOKEN".into(), Secret::new(canary));
    let command = "id -un; echo \"$PLAIN\"; printf '%s' \"$TOKEN\" | sha256sum; cat; echo why >&2; test ! -e /canary; exit 7";
    let exec = Exec { command, environment: &environment, input: Input::Bytes(b"from stdin\n") };
    let finished = session.exec(&exec, Some(&log), &within(600)).await.unwrap();
    let hash = hex::encode(digest::digest(&digest::SHA256, canary.as_bytes()));
    assert_eq!(finished.code, 7);
    let mut lines: Vec<&str> = finished.output.lines().collect();
    lines.sort_unstable();
    let mut expected =
        vec!["a b".to_owned(), "from stdin".into(), format!("{hash}  -"), "root".into(), "why".into()];
    expected.sort_unstable();
    assert_eq!(lines, expected);
    assert_eq!(log.tail(5).lines().count(), 5);

    // Files, small and large, to a hostile path.
    let large = dir.path().join("large");
    std::fs::write(&large, vec![7; 20_000_000]).unwrap();
    let destination = "/srv/a b/$(touch canary)'x";
    session.copy(Input::File(&large), destination, 0o640, &within(300)).await.unwrap();
    let none = Environment::default();
    let command = "stat -c '%a %s %U' /srv/*/*; ls /srv; ls / | grep canary";
    let exec = Exec { command, environment: &none, input: Input::Empty };
    let finished = session.exec(&exec, None, &within(600)).await.unwrap();
    assert_eq!(finished.output, "640 20000000 root\na b\n");
    let refused = session.copy(Input::Empty, "/proc/none/file", 0o600, &within(600)).await.unwrap_err();
    assert!(refused.to_string().starts_with("could not copy to /proc/none/file in the guest: "), "{refused}");

    // A command that takes too long.
    let exec = Exec { command: "sleep 100", environment: &none, input: Input::Empty };
    let late = session.exec(&exec, None, &within(1)).await.unwrap_err();
    assert_eq!(late.to_string(), "the command was given up after 1s, its time limit");

    // A stranger is not let pass.
    let record = std::fs::read_to_string(dir.path().join("known_hosts")).unwrap();
    let other = ssh::generate(&dir.path().join("other"), "").unwrap();
    std::fs::write(dir.path().join("known_hosts"), format!("test {other}\n")).unwrap();
    let stranger = guest.connect(&login, &within(300)).await.unwrap_err();
    assert!(stranger.to_string().contains("host key is not the one recorded"), "{stranger}");
    std::fs::write(dir.path().join("known_hosts"), record).unwrap();

    // Switched off by another process, amid a command.
    let start = Instant::now();
    let button = Guest::find(spec.id, dir.path(), guest.forwards()).await.unwrap();
    let (limits, exec) =
        (within(600), Exec { command: "sleep 600", environment: &none, input: Input::Empty });
    let (stopped, off) = tokio::join!(
        guest.during("the end of a command", &cancel, session.exec(&exec, None, &limits)),
        button.shutdown(Duration::from_secs(300)),
    );
    off.unwrap();
    println!("switched off after {:?}", start.elapsed());
    assert!(!is_running(spec.id));
    let stopped = stopped.unwrap_err().to_string();
    assert!(stopped.starts_with("the guest stopped while we waited for the end of a command"), "{stopped}");
    assert!(stopped.contains("Power down") || stopped.contains("Power-Off"), "{stopped}");
}

#[tokio::test]
async fn a_dropped_guest_is_gone_and_a_daemon_stays_until_it_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spec, _login) = prepare(dir.path()).await;
    let emulator = emulator(AcceleratorChoice::Auto);
    let (runner, cancel) = (image::host().runner, CancellationToken::new());
    let guest = Guest::start(&spec, &emulator, dir.path(), &runner, &cancel).await.unwrap();
    assert!(is_running(spec.id));
    drop(guest);
    let start = Instant::now();
    while is_running(spec.id) {
        assert!(start.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    spec.lifetime = Lifetime::Daemon;
    let guest = Guest::start(&spec, &emulator, dir.path(), &runner, &cancel).await.unwrap();
    let forwards = guest.forwards().to_vec();
    drop(guest);
    cancel.cancel();
    let found = Guest::find(spec.id, dir.path(), &forwards).await.expect("the daemon runs on");
    assert_eq!(found.forwards(), forwards);
    assert!(Guest::find(Uuid::new_v4(), dir.path(), &forwards).await.is_none());

    // The port of one guest is taken for the next.
    let busy = tempfile::tempdir().unwrap();
    overlay(&debian::disk().await, &busy.path().join("disk.qcow2"));
    let second = GuestSpec { id: Uuid::new_v4(), forwards: forwards.clone(), ..spec.clone() };
    let cancel = CancellationToken::new();
    let error = Guest::start(&second, &emulator, busy.path(), &runner, &cancel).await.unwrap_err();
    let port = forwards[0].host.unwrap();
    assert!(matches!(error, GuestError::PortInUse { port: taken, .. } if taken == port), "{error}");

    // Even without its folder.
    std::fs::remove_file(dir.path().join("qemu.pid")).unwrap();
    std::fs::remove_file(dir.path().join("qmp.sock")).unwrap();
    kill(dir.path(), spec.id).await.unwrap();
    assert!(!is_running(spec.id));
    assert!(Guest::find(spec.id, dir.path(), &forwards).await.is_none());
}

#[tokio::test]
async fn a_guest_that_never_comes_up_shows_its_console() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spec, login) = prepare(dir.path()).await;
    let empty = dir.path().join("empty.raw");
    std::fs::File::create(&empty).unwrap().set_len(1 << 20).unwrap();
    spec.disks[0] = Disk { file: empty, format: DiskFormat::Raw, access: DiskAccess::Fast };
    let (emulator, runner) = (emulator(AcceleratorChoice::Auto), image::host().runner);
    let cancel = CancellationToken::new();
    let mut guest = Guest::start(&spec, &emulator, dir.path(), &runner, &cancel).await.unwrap();
    let start = Instant::now();
    while console::tail(dir.path()).is_empty() && start.elapsed() < Duration::from_secs(300) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let error = guest.connect(&login, &within(1)).await.unwrap_err();
    let GuestError::NotUp { console, .. } = &error else { panic!("{error}") };
    assert!(!console.is_empty() && error.to_string().ends_with(console), "{error}");

    // One that dies meanwhile, and one that is cancelled.
    let stopped = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        kill(dir.path(), spec.id).await.unwrap();
    };
    let limits = within(60);
    let (error, ()) = tokio::join!(guest.wait_ssh(&limits), stopped);
    assert!(matches!(error.unwrap_err(), GuestError::Stopped { .. }));

    let mut guest = Guest::start(&spec, &emulator, dir.path(), &runner, &cancel).await.unwrap();
    let cancelled = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cancel.cancel();
    };
    let limits = Limits { cancel: cancel.clone(), timeout: None };
    let (error, ()) = tokio::join!(guest.wait_ssh(&limits), cancelled);
    assert!(matches!(error.unwrap_err(), GuestError::Cancelled | GuestError::Stopped { .. }));
    // It ends by itself; another one starts in its folder only when it has.
    guest.kill().await.unwrap();

    // One that does not listen to its power button, as a builder has it and as a machine's is found.
    for lifetime in [Lifetime::WithProvider, Lifetime::Daemon] {
        spec.lifetime = lifetime;
        let cancel = CancellationToken::new();
        let guest = Guest::start(&spec, &emulator, dir.path(), &runner, &cancel).await.unwrap();
        let start = Instant::now();
        let off = tokio::time::timeout(Duration::from_secs(60), guest.shutdown(Duration::from_secs(1))).await;
        off.expect("the plug is not pulled").unwrap();
        assert!(start.elapsed() >= Duration::from_secs(1), "it was not asked first");
        assert!(!is_running(spec.id), "{lifetime:?}");
    }
}

/// QEMU, emulating, whose machines have no timer at their first `silent` starts, and this kernel in place of their disks.
#[cfg(target_arch = "x86_64")]
fn without_timer(dir: &Path, silent: usize, kernel: &Path) -> Emulator {
    use std::os::unix::fs::PermissionsExt;

    let emulator = emulator(AcceleratorChoice::Only(Accelerator::Tcg));
    let program = dir.join("qemu");
    let (qemu, kernel) = (emulator.program.display(), kernel.display());
    let script = format!(
        "#!/bin/sh\necho start >>starts\nif [ \"$(wc -l <starts)\" -le {silent} ]; then \
         set -- \"$@\" -machine pit=off,hpet=off; fi\nexec {qemu} \"$@\" -kernel {kernel} -append 'console=ttyS0 quiet'\n"
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    Emulator { program, ..emulator }
}

/// A kernel of its own, which finds no root file system: that of our images does not check its clock.
#[tokio::test]
#[cfg(target_arch = "x86_64")]
async fn a_kernel_that_finds_no_clock_is_started_again_and_another_panic_is_told_at_once() {
    let image = image::Inside::of_disk(&debian::disk().await, DiskFormat::Qcow2);
    let names = image.list("/boot");
    let kernel = names.iter().find(|name| name.starts_with("vmlinuz-")).unwrap();
    let kernel = image.dump(&format!("/boot/{kernel}"));
    for (lifetime, silent, starts, told) in [
        (Lifetime::Daemon, 1, 2, "VFS: Unable to mount root fs"),
        (Lifetime::WithProvider, 9, 4, "this computer is too busy to emulate a clock that ticks in time"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (mut spec, _login) = prepare(dir.path()).await;
        spec.lifetime = lifetime;
        spec.disks.clear();
        let (emulator, cancel) = (without_timer(dir.path(), silent, &kernel), CancellationToken::new());
        let (runner, start) = (image::host().runner, Instant::now());
        let mut guest = Guest::start(&spec, &emulator, dir.path(), &runner, &cancel).await.unwrap();
        let error = guest.wait_ssh(&within(600)).await.unwrap_err();
        println!("{lifetime:?}, without timer at {silent} starts: after {:?}", start.elapsed());
        assert!(matches!(error, GuestError::Panicked { .. }), "{error}");
        assert!(error.to_string().contains(told), "{error}");
        let started = std::fs::read_to_string(dir.path().join("starts")).unwrap();
        // On a busy computer there may be one more that does not hear its timer.
        assert!((starts..=4).contains(&started.lines().count()), "{started}");
        guest.kill().await.unwrap();
        assert!(!is_running(spec.id));
    }
}

/// A QEMU that was killed a moment ago may still have its files.
#[tokio::test]
async fn a_guest_whose_disk_is_not_free_yet_starts_when_it_is() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (mut spec, _login) = prepare(dirs[0].path()).await;
    spec.disks[0].file = dirs[0].path().join("disk.qcow2");
    let (emulator, runner) = (emulator(AcceleratorChoice::Auto), image::host().runner);
    let cancel = CancellationToken::new();
    let before = Guest::start(&spec, &emulator, dirs[0].path(), &runner, &cancel).await.unwrap();
    let held = Duration::from_secs(1);
    let (begun, free) = (Instant::now(), async {
        tokio::time::sleep(held).await;
        before.kill().await.unwrap();
    });
    let start = Guest::start(&spec, &emulator, dirs[1].path(), &runner, &cancel);
    let (after, ()) = tokio::join!(start, free);
    assert!(begun.elapsed() >= held, "the disk was not held");
    after.unwrap().kill().await.unwrap();
}

#[tokio::test]
async fn what_qemu_refuses_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spec, _login) = prepare(dir.path()).await;
    spec.disks[0].file = "no-such-disk.qcow2".into();
    let (emulator, runner) = (emulator(AcceleratorChoice::Only(Accelerator::Tcg)), image::host().runner);
    for lifetime in [Lifetime::WithProvider, Lifetime::Daemon] {
        spec.lifetime = lifetime;
        let error = Guest::start(&spec, &emulator, dir.path(), &runner, &CancellationToken::new()).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("no-such-disk.qcow2"), "{error}");
    }
    let emulator = Emulator { firmware: None, ..emulator };
    let error = Guest::start(&spec, &emulator, dir.path(), &runner, &CancellationToken::new()).await;
    assert!(matches!(error.unwrap_err(), GuestError::NoFirmware));
}
