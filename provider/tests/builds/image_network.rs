//! What steps and checks reach with `network = "mirror"`: packages, and nothing else.

use std::net::TcpListener;

use sindri::backends::qemu::{Base, ImageSource, Network, QemuImageSpec};
use sindri::domain::{Action, Check, ImageSpec, Step};

use crate::support::image::{Inside, Site, assert_clean, image, small, step};

/// Installs a package, and fails where it reaches anything else.
const REACH: &str = r#"#!/bin/bash
set -eu
case $http_proxy in http://127.0.0.1:*) ;; *) exit 3 ;; esac
test "$http_proxy" = "$HTTPS_PROXY"
# Emulated, lists are read for half a minute: once is enough.
test -n "$LISTED" || apt-get update
apt-get install -y --no-install-recommends "$PACKAGE"
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

/// A step of it, which reads the lists of packages, or finds them `listed`. `host` is this computer's address as the step sees
/// it, `port` one of its ports.
fn reach(host: &str, port: u16, package: &str, listed: &str) -> Step {
    let mut reach = step(Action::Script { name: "reach".into(), content: REACH.into() });
    let told = [("HOST", host), ("PORT", &port.to_string()), ("PACKAGE", package), ("LISTED", listed)];
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

/// In the tree, then the image as a base of a guest, whose sources say what its mirrors are, after a restart as well.
#[tokio::test(flavor = "multi_thread")]
async fn steps_and_checks_reach_package_mirrors_alone() {
    let site = Site::new();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let built = site
        .build(&image(vec![reach("127.0.0.1", port, "hello", "")]), &mirrored(None, false))
        .await
        .unwrap();
    let inside = Inside::of(&built);
    assert!(inside.list("/usr/bin").contains(&"hello".to_owned()));
    assert_clean(&inside);
    assert!(!inside.contains("127.0.0.1:3128"), "the proxy is in the image");
    assert!(site.log_text().contains("Refused by `network = \"mirror\"`: http://example.com"));

    let steps = vec![
        reach("10.0.2.2", port, "hello", ""),
        step(Action::Reboot),
        reach("10.0.2.2", port, "pv", "yes"),
    ];
    let spec = ImageSpec { checks: vec![check()], ..image(steps) };
    let base = Base::Image { source: ImageSource::Path(built.disk.clone()), sha256: None };
    let built = site.build(&spec, &mirrored(Some(base), true)).await.unwrap();
    let inside = Inside::of(&built);
    assert!(inside.list("/usr/bin").contains(&"pv".to_owned()));
    assert_clean(&inside);
    assert_nobody_came(&other);
}

/// A file of the mirror's can be had; reading lists of packages takes an emulated guest half a minute.
fn check() -> Check {
    let command = r#". /etc/os-release
mirror=$(grep -rhoE 'https?://[^ ]+' /etc/apt/sources.list* | head -n 1)
/usr/lib/apt/apt-helper download-file "${mirror%/}/dists/$VERSION_CODENAME/Release" /run/release &&
    grep -q "^Codename: $VERSION_CODENAME" /run/release && ! timeout 20 bash -c 'exec 3<>/dev/tcp/192.0.2.1/80'"#;
    Check { name: "packages can be had".into(), command: command.into() }
}
