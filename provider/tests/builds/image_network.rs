//! What steps reach with `network = "mirror"`: packages, and nothing else. What checks do is in `image_guest`.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::Duration;

use sindri::backends::qemu::{Base, ImageSource, Network, QemuImageSpec};
use sindri::domain::{Action, Step};

use crate::support::image::{Inside, Site, assert_clean, image, inline, small, step};

/// Gets a file of the mirror's: reading lists of packages takes an emulated guest half a minute.
pub(crate) const FETCH: &str = r#". /etc/os-release
mirror=$(grep -rhoE 'https?://[^ ]+' /etc/apt/sources.list* | head -n 1)
/usr/lib/apt/apt-helper download-file "${mirror%/}/dists/$VERSION_CODENAME/Release" /run/release &&
    grep -q "^Codename: $VERSION_CODENAME" /run/release"#;

/// Installs a package, and keeps the lists of packages, which no image has, for the guest.
const UPDATE_AND_INSTALL: &str = "apt-get update && apt-get install -y --no-install-recommends hello &&
    cp -a /var/lib/apt/lists /srv/lists";

/// Installs a package by these lists.
const INSTALL: &str = "apt-get install -y --no-install-recommends -o Dir::State::Lists=/srv/lists pv";

/// As the package of a newer kernel would.
const INSTALL_KERNEL: &str = "! grep sindri.newer /proc/cmdline
for file in vmlinuz initrd.img; do ln /boot/$file-$(uname -r) /boot/$file-99.1; done
sed -i 's/$/ sindri.newer/' /etc/kernel/cmdline
/etc/kernel/postinst.d/zz-systemd-boot 99.1 /boot/vmlinuz-99.1";

/// Gets packages, and fails where it reaches anything else.
const REACH: &str = r#"#!/bin/bash
set -eu
case $http_proxy in http://127.0.0.1:*) ;; *) exit 3 ;; esac
test "$http_proxy" = "$HTTPS_PROXY"
sh -c "$GET"
# Past the proxy.
for other in "$HOST/$PORT" 192.0.2.1/80; do
    if timeout 20 bash -c 'exec 3<>"/dev/tcp/$0"' "$other"; then exit 5; fi
done
mirror=$(grep -rhoE 'https?://[^/ ]+' /etc/apt/sources.list* | head -n 1)
mirror=${mirror#*://} mirror=${mirror%:*}
case $mirror in *[!0-9.]*) if getent hosts "$mirror"; then exit 6; fi ;; esac
# Through it.
proxy=${http_proxy#http://}
ask() {
    exec 3<>"/dev/tcp/${proxy%:*}/${proxy#*:}"
    printf '%s HTTP/1.0\r\n\r\n' "$1" >&3
    cat <&3
}
for request in "GET http://$HOST:$PORT/" "CONNECT 127.0.0.1:$PORT" "GET http://example.com/" "CONNECT $mirror:22"; do
    told=$(ask "$request")
    case $told in *' 403 '*'`network = "mirror"`'*) ;; *) echo "$request: $told"; exit 4 ;; esac
done
"#;

/// A step of it, which gets by `get`. `host` is this computer's address as the step sees it, `port` one of its ports.
fn reach(host: &str, port: u16, get: &str) -> Step {
    let mut reach = step(Action::Script { name: "reach".into(), content: REACH.into() });
    let told = [("HOST", host), ("PORT", &port.to_string()), ("GET", get)];
    reach.environment.plain = told.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    reach
}

fn mirrored(base: Option<Base>, boot: bool) -> QemuImageSpec {
    let mut qemu = small();
    (qemu.network, qemu.boot, qemu.disk_size_gb) = (Network::Mirror, boot, 2);
    qemu.base = base.unwrap_or(qemu.base);
    qemu
}

fn assert_nobody_came(listener: &TcpListener) {
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "somebody came to this computer's port");
}

/// Works on, and notes in which machines the site's guests ran meanwhile, by their processes.
async fn noting_machines<T>(site: &Site, work: impl Future<Output = T>) -> (T, BTreeSet<String>) {
    let mut machines = BTreeSet::new();
    let note = async {
        loop {
            let builds = std::fs::read_dir(site.dir.path()).unwrap().flatten();
            let pids = builds.map(|build| std::fs::read_to_string(build.path().join("guest/qemu.pid")));
            machines.extend(pids.flatten().filter(|pid| !pid.is_empty()));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let done = tokio::select! {
        done = work => done,
        () = note => unreachable!(),
    };
    (done, machines)
}

/// In the tree, then the image as a base of a guest, whose sources say what its mirrors are, after a restart as well: with a
/// newer kernel, in a new machine.
#[tokio::test(flavor = "multi_thread")]
async fn steps_reach_package_mirrors_alone_and_again_after_a_restart() {
    let site = Site::new();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let steps = vec![reach("127.0.0.1", port, UPDATE_AND_INSTALL)];
    let built = site.build(&image(steps), &mirrored(None, false)).await.unwrap();
    let inside = Inside::of(&built);
    assert!(inside.list("/usr/bin").contains(&"hello".to_owned()));
    assert_clean(&inside);
    assert!(!inside.contains("127.0.0.1:3128"), "the proxy is in the image");
    assert!(site.log_text().contains("Refused by `network = \"mirror\"`: http://example.com"));

    let steps = vec![
        reach("10.0.2.2", port, FETCH),
        inline(&[INSTALL_KERNEL]),
        step(Action::Reboot),
        inline(&["grep sindri.newer /proc/cmdline"]),
        reach("10.0.2.2", port, INSTALL),
    ];
    let base = Base::Image { source: ImageSource::Path(built.disk.clone()), sha256: None };
    let (spec, qemu) = (image(steps), mirrored(Some(base), true));
    let (built, machines) = noting_machines(&site, site.build(&spec, &qemu)).await;
    let inside = Inside::of(&built.unwrap());
    assert!(inside.list("/usr/bin").contains(&"pv".to_owned()));
    assert_clean(&inside);
    assert_nobody_came(&other);
    assert_eq!(machines.len(), 2, "the machine was reset");
}
