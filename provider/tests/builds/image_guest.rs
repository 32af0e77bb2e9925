//! A real image whose steps run in a booted guest, then booted again for its checks.

use sindri::backends::qemu::image::{BuildError, remove_partial};
use sindri::backends::qemu::{Base, DiskFormat, Engine, ImageSource, Network};
use sindri::domain::{Action, Check, OnError, Security};

use crate::image_network;
use crate::support::debian;
use crate::support::image::{CANARY, Inside, Site, assert_clean, host, image, inline, run, small, step};

fn check(name: &str, command: &str) -> Check {
    Check { name: name.into(), command: command.into() }
}

/// The last check fails: what was built stays with its guest, for a look.
#[tokio::test(flavor = "multi_thread")]
async fn steps_in_a_guest_then_checks_of_the_finished_image() {
    let site = Site::new();
    let file = site.dir.path().join("file");
    std::fs::write(&file, "uploaded\n").unwrap();
    let upload =
        Action::Upload { source: file, destination: "/opt/new/file".into(), mode: Some(0o600), owner: None };
    let mut as_user = inline(&["id -un > /srv/who"]);
    as_user.user = Some("games".into());
    let mut spec = image(vec![
        inline(&[
            "systemctl is-active ssh",
            "printf '%s|%s' \"$PLAIN\" \"${#TOKEN}\" > /srv/env",
            "chmod 777 /srv",
            // A server that is left running, with the step's own output: the step ends all the same.
            "sleep 3600 &",
        ]),
        inline(&["echo \"$TOKEN\" > /srv/token; sync; rm /srv/token; echo x > /root/.bash_history"]),
        as_user,
        step(upload),
        // As if a page with a secret had been swapped out.
        inline(&[
            "head -c 16M /dev/zero > '/srv/swap file'; chmod 600 /srv/swap*",
            "mkswap --uuid 11111111-2222-3333-4444-555555555555 --label kept /srv/swap*",
            "printf %s \"$TOKEN\" | dd of='/srv/swap file' bs=4096 seek=1000 conv=notrunc",
            "swapon /srv/swap*",
        ]),
        // A block device, as a partition is one, and memory.
        inline(&[
            "truncate -s 16M /srv/device; device=$(losetup --find --show /srv/device)",
            "mkswap --uuid 21111111-2222-3333-4444-555555555555 $device",
            "printf %s \"$TOKEN\" | dd of=$device bs=4096 seek=1000",
            "modprobe zram; echo 16M > /sys/block/zram0/disksize; mkswap /dev/zram0",
            "swapon $device /dev/zram0; sync; test $(wc -l < /proc/swaps) = 4",
        ]),
    ]);
    spec.checks = vec![
        check("the step's file is there", "grep -q '^a b\"c|' /srv/env && test \"$(cat /srv/who)\" = games"),
        check(
            "the kernel can be made anew",
            "kernel-install add $(uname -r) /boot/vmlinuz-$(uname -r) /boot/initrd.img-$(uname -r) && grep -q '^linux */linux/' /boot/efi/loader/entries/*.conf",
        ),
        check("the disk is whole", "! systemctl --failed | grep -q failed && touch /changed"),
        check("packages can be had", image_network::FETCH),
        check("nothing else can", "! timeout 20 bash -c 'exec 3<>/dev/tcp/192.0.2.1/80'"),
        check("never", "echo because; exit 9"),
    ];
    spec.on_error = OnError::Keep;
    let mut qemu = small();
    (qemu.boot, qemu.network) = (true, Network::Mirror);
    let error = site.build(&spec, &qemu).await.unwrap_err();
    let BuildError::Kept { source, login } = &error else { panic!("{error}") };
    assert!(
        matches!(&**source, BuildError::Check(failed) if failed.code == 9 && failed.tail == "because"),
        "{source}"
    );
    let left = std::fs::read_dir(site.dir.path()).unwrap().map(|it| it.unwrap().path());
    let kept = left.into_iter().find(|path| path.join("check").exists()).unwrap();
    let inside = Inside::of_disk(&kept.join("disk.qcow2"), DiskFormat::Qcow2);
    assert_eq!(inside.cat("/srv/env"), format!("a b\"c|{}", CANARY.len()));
    assert_eq!(inside.cat("/opt/new/file"), "uploaded\n");
    assert!(!inside.list("/").contains(&"changed".to_owned()), "a check changed the image");
    for (file, lines) in [
        ("\"/srv/swap file\"", &["LABEL=kept", "UUID=11111111-2222-3333-4444-555555555555", "TYPE=swap"][..]),
        ("/srv/device", &["UUID=21111111-2222-3333-4444-555555555555", "TYPE=swap"]),
    ] {
        let swap = run("blkid", &["-p", "-o", "export", inside.dump(file).to_str().unwrap()]);
        for line in lines {
            assert!(swap.lines().any(|it| it == *line), "no {line} in {swap}");
        }
    }
    assert!(!site.log_text().contains("swapoff failed"));
    assert_clean(&inside);

    let seen = run("timeout", &["300", "sh", "-c", &format!("{login} cat /srv/env")]);
    assert_eq!(seen, format!("a b\"c|{}", CANARY.len()));
    let id = kept.file_name().unwrap().to_str().unwrap().parse().unwrap();
    let pid = std::fs::read_to_string(kept.join("check/qemu.pid")).unwrap();
    remove_partial(&host(), id, &kept).await.unwrap();
    assert!(!kept.exists());
    // A process that has ended and waits to be reaped by us, who started it, has no arguments.
    let arguments = std::fs::read(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
    assert!(arguments.is_empty(), "the guest still runs");
}

/// Here by what is run while the builder leaves: it would else be a matter of chance.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_a_step_switches_off_later_is_no_image() {
    let site = Site::new();
    let mut spec = image(vec![inline(&[
        "printf '#!/bin/sh\necho o >/proc/sysrq-trigger\nsleep 600\n' >$(command -v fstrim)",
    ])]);
    spec.security = Security { clean_sensitive_data: false, remove_ssh_host_keys: false };
    let mut qemu = small();
    qemu.boot = true;
    let error = site.build(&spec, &qemu).await.unwrap_err();
    assert!(error.to_string().contains("Let no step switch it off"), "{error}");
}

/// What cloud-init's record says of a stage that was ended amid its work.
const BEGUN: &str = r#"[Service]
ExecStartPost=/bin/sed -i -e 's/"stage": null/"stage": "modules-config"/' -e '/"modules-config": {/,/}/s/"start": null/"start": 1.5/' /run/cloud-init/status.json
"#;

/// The oldest Packer, from `PATH`, over a base image that is let in by cloud-init's seed.
#[tokio::test(flavor = "multi_thread")]
async fn packer_makes_the_same_of_a_base_image() {
    let site = Site::new();
    let base = Inside::of_disk(&debian::disk().await, DiskFormat::Qcow2);
    // On a busy computer the stage after the network's has begun when the builder stops it.
    for stage in ["cloud-init.service", "cloud-init-network.service"] {
        base.put(&format!("/etc/systemd/system/{stage}.d"), "test.conf", BEGUN);
    }
    let file = site.dir.path().join("file");
    std::fs::write(&file, "uploaded\n").unwrap();
    let upload =
        Action::Upload { source: file, destination: "/opt/new/file".into(), mode: Some(0o600), owner: None };
    let mut as_user = inline(&["id -un > /srv/who; env | grep PACKER > /srv/all || true"]);
    as_user.user = Some("games".into());
    let spec = image(vec![
        // How steps for cloud images begin.
        inline(&[
            "timeout 300 cloud-init status --wait",
            "until [ -f /var/lib/cloud/instance/boot-finished ]; do sleep 1; done",
            // Which no machine from the image is to have.
            "ls /etc/systemd/network/10-cloud-init-*",
        ]),
        inline(&["printf '%s|%s' \"$PLAIN\" \"${#TOKEN}\" > /srv/env", "chmod 777 /srv"]),
        inline(&["echo \"$TOKEN\" > /srv/token; sync; rm /srv/token; echo x > /root/.bash_history"]),
        as_user,
        step(upload),
    ]);
    let mut qemu = small();
    qemu.base = Base::Image { source: ImageSource::Path(base.path("disk.raw")), sha256: None };
    (qemu.engine, qemu.boot) = (Engine::Packer, true);
    let built = site.build(&spec, &qemu).await.unwrap();
    let inside = Inside::of(&built);
    assert_eq!(inside.cat("/srv/env"), format!("a b\"c|{}", CANARY.len()));
    assert_eq!(inside.cat("/srv/who").trim(), "games");
    assert_eq!(inside.cat("/opt/new/file"), "uploaded\n");
    assert!(
        !inside.cat("/srv/all").contains("PACKER"),
        "a step sees who runs it: {}",
        inside.cat("/srv/all")
    );
    assert_clean(&inside);
}
