//! Real images from a real bootstrap, their steps run in the tree.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use acceptance_tests::only_debian;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sindri::backends::qemu::image::{BuildError, Host};
use sindri::backends::qemu::store::Store;
use sindri::backends::qemu::{
    Base, Bootstrap, DiskFormat, ForeignStore, ImageSource, Local, Network, QemuImageSpec,
};
use sindri::domain::{Action, ImageBuilder};
use sindri::provision::StepFailure;
use tokio_util::sync::CancellationToken;

use crate::support::image::{CANARY, Inside, Site, assert_clean, host, image, inline, run, small, step};
use crate::support::meanwhile;

/// A password of APT's.
const LOGIN: &str = "canary-of-apt";

#[tokio::test(flavor = "multi_thread")]
async fn an_image_holds_what_the_steps_made_and_nothing_of_the_build() {
    let site = Site::new();
    let folder = site.dir.path().join("a folder");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("data"), "uploaded\n").unwrap();
    let mut as_user = inline(&["id -un > /srv/who", "echo \"$HOME\" >> /srv/who"]);
    as_user.user = Some("games".into());
    let upload = |source, destination: &str, owner: Option<&str>| {
        let (mode, owner) = (Some(0o640), owner.map(str::to_owned));
        step(Action::Upload { source, destination: destination.into(), mode, owner })
    };
    // Not where our own programs are found.
    let mut elsewhere = inline(&["echo \"$PATH\" > /srv/path"]);
    elsewhere.environment.plain.insert("PATH".into(), "/opt/only".into());
    let spec = image(vec![
        elsewhere,
        inline(&[
            "printf '%s|%s' \"$PLAIN\" \"${#TOKEN}\" > /srv/env",
            "chmod 777 /srv",
            "chown 33:44 /srv/env",
        ]),
        as_user,
        upload(folder.clone(), "/opt/folder", Some("daemon:games")),
        upload(folder.join("data"), "/opt/new/file name", None),
        // Joins what is there, and leaves the folder as it is.
        inline(&[
            "install -d -m 711 -o 33 -g 44 /opt/there; echo kept > /opt/there/kept; ln -s there /opt/link",
        ]),
        upload(folder.clone(), "/opt/link", None),
        step(Action::Script {
            name: "s.py".into(),
            content: "#!/usr/bin/python3\nopen('/srv/py', 'w').write('py')".into(),
        }),
        inline(&["test \"$(id -u)\" = 0", "! test -e /run/systemd/system", "test -c /dev/null"]),
        // What the build writes next is not written where a step wants it.
        inline(&["! ln -sf /srv/elsewhere /run/sindri/script && ! rm -f /run/sindri/script"]),
        inline(&["test /proc/1/root -ef / && test /proc/1/cwd -ef / && test -z \"$(ls /proc/1/root/mnt)\""]),
        inline(&[
            "hostname; /usr/sbin/policy-rc.d && exit 1 || test $? = 101",
            "echo hist > /root/.bash_history",
        ]),
    ]);
    let compressed = QemuImageSpec { compress: true, disk_size_gb: 2, ..small() };
    let built = site.build(&spec, &compressed).await.unwrap();
    let inside = Inside::of(&built);
    assert_eq!(inside.cat("/srv/env"), format!("a b\"c|{}", CANARY.len()));
    assert_eq!(inside.cat("/srv/who"), "games\n/usr/games\n");
    assert_eq!(inside.cat("/srv/py"), "py");
    assert_eq!(inside.cat("/opt/folder/data"), "uploaded\n");
    assert_eq!(inside.cat("\"/opt/new/file name\""), "uploaded\n");
    assert_eq!(inside.cat("/opt/there/kept") + &inside.cat("/opt/there/data"), "kept\nuploaded\n");
    let listing = inside.debugfs("stat /opt/there");
    assert!(listing.contains("Mode:  0711") && listing.contains("User:    33   Group:    44"), "{listing}");
    assert_eq!(inside.cat("/srv/path"), "/opt/only\n");
    let listing = inside.debugfs("stat /opt/folder/data");
    assert!(listing.contains("User:     1   Group:    60"), "{listing}");
    let listing = inside.debugfs("stat /srv/env");
    assert!(listing.contains("User:    33   Group:    44"), "{listing}");
    assert_clean(&inside);
    let entry = run(
        "mtype",
        &["-i", &format!("{}@@1M", inside.path("disk.raw").display()), "::/loader/entries/*.conf"],
    );
    assert!(entry.contains("linux      /linux/") && entry.contains(" root=PARTUUID="), "{entry}");
    assert_eq!(built.virtual_size, 2 << 30);
    assert_eq!(built.size_bytes, std::fs::metadata(&built.disk).unwrap().len());
    assert_eq!(run("sha256sum", &[built.disk.to_str().unwrap()])[..64], built.sha256);

    let again = site.build(&spec, &compressed).await.unwrap();
    assert_eq!(built.sha256, again.sha256, "identical inputs give identical bytes");

    // The finished image as a base, in another format and larger.
    let mut copy = small();
    copy.base =
        Base::Image { source: ImageSource::Path(built.disk.clone()), sha256: Some(built.sha256.clone()) };
    (copy.disk_size_gb, copy.format) = (3, DiskFormat::Raw);
    let copied = site.build(&image(Vec::new()), &copy).await.unwrap();
    assert_eq!(std::fs::metadata(&copied.disk).unwrap().len(), 3 << 30);
    assert_eq!(copied.resolved_base, format!("sha256:{}", built.sha256));
    copy.disk_size_gb = 1;
    let error = site.build(&image(Vec::new()), &copy).await.unwrap_err();
    assert!(matches!(error, BuildError::TooSmall { disk_gb: 1, needed_gb: 2 }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_say_what_and_leave_nothing() {
    let site = Site::new();
    let error =
        site.build(&image(vec![inline(&["echo one", "echo why >&2; exit 7"])]), &small()).await.unwrap_err();
    assert!(
        matches!(&error, BuildError::Step(StepFailure::Code { name, code: 7, tail }) if name == "1 (echo one)" && tail == "one\nwhy"),
        "{error}"
    );
    let mut slow = inline(&["sleep 600"]);
    slow.timeout = Some(Duration::from_secs(1));
    let error = site.build(&image(vec![slow]), &small()).await.unwrap_err();
    assert!(matches!(error, BuildError::Step(StepFailure::Timeout { .. })), "{error}");

    // The probe reaches this computer, where steps share its network.
    let listener = anywhere();
    let port = listener.local_addr().unwrap().port();
    let probe = format!("if bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}'; then exit 9; fi");
    for (network, expected) in [(Network::User, 9), (Network::None, 3)] {
        let mut qemu = small();
        qemu.network = network;
        let error = site.build(&image(vec![inline(&[&probe, "exit 3"])]), &qemu).await.unwrap_err();
        let BuildError::Step(StepFailure::Code { code, .. }) = &error else { panic!("{network:?}: {error}") };
        assert_eq!(*code, expected, "{network:?}: {error}");
    }

    let big = inline(&["head -c 400M /dev/zero | tr '\\0' x > /opt/big"]);
    let mut tight = small();
    tight.disk_size_gb = 1;
    let error = site.build(&image(vec![big]), &tight).await.unwrap_err();
    assert!(matches!(error, BuildError::TooSmall { disk_gb: 1, needed_gb: 2 }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_stops_within_seconds_and_leaves_no_process() {
    let site = Site::new();
    let cancel = site.cancel.clone();
    let mark = "86397";
    let spec = image(vec![inline(&[&format!("sleep {mark} & sleep {mark}")])]);
    let stop = async {
        while !running(mark) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        cancel.cancel();
        Instant::now()
    };
    let (built, cancelled) = meanwhile(site.build(&spec, &small()), stop).await;
    let error = built.unwrap_err();
    let cancelled = cancelled.unwrap_or_else(|| panic!("before it was cancelled: {error}"));
    assert!(matches!(error, BuildError::Cancelled), "{error}");
    assert!(cancelled.elapsed() < Duration::from_secs(10), "{:?}", cancelled.elapsed());
    assert!(!running(mark));
}

fn anywhere() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn running(mark: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|process| {
        std::fs::read(process.path().join("cmdline"))
            .is_ok_and(|line| line == format!("sleep\0{mark}\0").as_bytes())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bases_are_refused_early() {
    let site = Site::new();
    let bootstrap = |suite: &str, mirror: Option<&str>| {
        let mut qemu = small();
        let mirror = mirror.map(str::to_owned);
        qemu.base = Base::Bootstrap(Bootstrap {
            suite: suite.into(),
            mirror,
            security_mirror: None,
            snapshot: None,
            packages: Vec::new(),
        });
        qemu
    };
    let start = Instant::now();
    let error = site.build(&image(Vec::new()), &bootstrap("bogus", None)).await.unwrap_err();
    assert!(matches!(error, BuildError::UnknownSuite { .. }), "{error}");
    let nobody = anywhere().local_addr().unwrap();
    let error = site
        .build(&image(Vec::new()), &bootstrap("bookworm", Some(&format!("http://{nobody}"))))
        .await
        .unwrap_err();
    assert!(matches!(error, BuildError::Mirror { .. }), "{error}");

    let disk = site.dir.path().join("overlay.qcow2");
    let disk = disk.to_str().unwrap();
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/dev/null", disk, "1M"]);
    let mut qemu = small();
    qemu.base = Base::Image { source: ImageSource::Path(disk.into()), sha256: None };
    let error = site.build(&image(Vec::new()), &qemu).await.unwrap_err();
    assert!(matches!(error, BuildError::Refused { .. }), "{error}");
    qemu.base = Base::Image { source: ImageSource::Path(disk.into()), sha256: Some("0".repeat(64)) };
    let error = site.build(&image(Vec::new()), &qemu).await.unwrap_err();
    assert!(matches!(error, BuildError::Checksum { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(20));
}

/// A snapshot archive on this computer, in front of its own mirror: up to the first package, without the minutes that
/// all of them take.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_a_folder_below_the_mirror() {
    if !only_debian("stand for a snapshot archive of Debian's").unwrap() {
        return;
    }
    let moment = "20260101T000000Z";
    let site = Site::new();
    let (archive, asked) = archive(anywhere(), moment, None, site.cancel.clone());
    let mut qemu = small();
    qemu.base = Base::Bootstrap(Bootstrap {
        suite: "bookworm".into(),
        mirror: Some(format!("http://{archive}/archive/debian/")),
        security_mirror: Some(format!("http://{archive}/archive/debian-security")),
        snapshot: Some(moment.into()),
        packages: Vec::new(),
    });
    let error = site.build(&image(Vec::new()), &qemu).await.unwrap_err();
    assert!(matches!(error, BuildError::Cancelled), "{error}");
    let asked = asked.lock().unwrap();
    // By us first, then by APT.
    for suite in ["debian bookworm", "debian bookworm-updates", "debian-security bookworm-security"] {
        let (archive, suite) = suite.split_once(' ').unwrap();
        let release = format!("{archive}/dists/{suite}/InRelease");
        assert_eq!(asked.iter().filter(|path| **path == release).count(), 2, "{suite}: {asked:?}");
    }
}

/// A mirror that asks for a login which this computer's APT has. Nobody sees it on the way.
#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_is_logged_in_at_as_apt_does() {
    if !only_debian("stand for a mirror of Debian's").unwrap() {
        return;
    }
    let (moment, site) = ("20260101T000000Z", Site::new());
    let (archive, asked) = archive(anywhere(), moment, Some(&format!("user:{LOGIN}")), site.cancel.clone());
    let mirror = format!("http://{archive}/archive/debian");
    let mut qemu = small();
    qemu.base = Base::Bootstrap(Bootstrap {
        suite: "bookworm".into(),
        mirror: Some(mirror.clone()),
        security_mirror: None,
        snapshot: Some(moment.into()),
        packages: Vec::new(),
    });
    let error = site.build(&image(Vec::new()), &qemu).await.unwrap_err();
    assert!(matches!(&error, BuildError::Mirror { reason, .. } if reason.starts_with("401 ")), "{error}");

    let etc_apt = site.dir.path().join("apt");
    std::fs::create_dir_all(etc_apt.join("auth.conf.d")).unwrap();
    let entry = format!("machine {mirror} login user password {LOGIN}\n");
    std::fs::write(etc_apt.join("auth.conf.d/test.conf"), entry).unwrap();
    let host = Host { etc_apt, ..host() };
    // While it works: what others can see of it.
    let _until_the_end = site.cancel.clone().drop_guard();
    let seen = tokio::task::spawn_blocking({
        let cancel = site.cancel.clone();
        move || {
            let mut seen = Vec::new();
            while !cancel.is_cancelled() {
                let processes = std::fs::read_dir("/proc").unwrap().flatten();
                let lines = processes.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok());
                let lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
                seen.extend(lines.filter(|line| line.contains(LOGIN) || line.contains("Dir::Etc::netrc")));
                std::thread::sleep(Duration::from_millis(20));
            }
            seen
        }
    });
    let error = site.build_on(&host, &image(Vec::new()), &qemu).await.unwrap_err();
    site.cancel.cancel();
    assert!(matches!(error, BuildError::Cancelled), "{error}");
    let asked = asked.lock().unwrap().clone();
    assert!(asked.iter().any(|path| path.starts_with("debian/pool/")), "{asked:?}");
    let seen = seen.await.unwrap();
    assert!(seen.iter().any(|line| line.contains("auth.conf")), "nothing was told of a login: {seen:?}");
    assert!(!seen.iter().any(|line| line.contains(LOGIN)), "{seen:?}");
    assert!(!site.log_text().contains(LOGIN), "a login in the log");
}

#[tokio::test]
async fn a_mirror_is_asked_once_for_a_newer_base_and_nothing_is_made() {
    if !only_debian("ask for Debian's suite bookworm").unwrap() {
        return;
    }
    let (moment, dir) = ("now", tempfile::tempdir().unwrap());
    let (archive, asked) = archive(anywhere(), moment, None, CancellationToken::new());
    let Host { runner, accelerator, packer, .. } = host();
    let (store, cache_dir) = (Store::at(dir.path().join("data")), dir.path().join("cache"));
    let (foreign_store, bases) = (ForeignStore::Error, Default::default());
    let local = Arc::new(Local { store, cache_dir, accelerator, foreign_store, runner, packer, bases });
    let newer = async |mirror: &str, snapshot: Option<&str>, base: &str| {
        let mut qemu = small();
        qemu.base = Base::Bootstrap(Bootstrap {
            suite: "bookworm".into(),
            mirror: Some(mirror.to_owned()),
            security_mirror: None,
            snapshot: snapshot.map(str::to_owned),
            packages: Vec::new(),
        });
        local.builder(qemu).newer_base(base, chrono::Utc::now()).await
    };
    let (mirror, old) =
        (format!("http://{archive}/archive/debian/{moment}"), "Debian bookworm 12.0 2000-01-01");
    let next = newer(&mirror, None, old).await.expect("a newer one");
    assert!(next.starts_with("Debian bookworm 12."), "{next}");
    assert_eq!(newer(&mirror, None, &next).await, None);
    // A day of the archive stays what it is; who cannot be reached keeps no plan from being made.
    assert_eq!(newer(&mirror, Some("20260101T000000Z"), old).await, None);
    assert_eq!(newer("http://127.0.0.1:1/debian", None, old).await, None);
    let asked = asked.lock().unwrap();
    assert_eq!(
        *asked,
        ["bookworm", "bookworm-updates"].map(|suite| format!("debian/dists/{suite}/InRelease"))
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// What a newer suite's tools do otherwise: its kernel-install looks for a mounted ESP, its loader is signed. A step's APT logs
/// in as the bootstrap's does, by what the step's root alone can read and nothing keeps.
#[tokio::test(flavor = "multi_thread")]
async fn a_newer_suite_from_a_mirror_that_asks_for_a_login_boots_by_the_same_entry() {
    if !only_debian("make a system of Debian's suite trixie").unwrap() {
        return;
    }
    let (moment, site) = ("20260101T000000Z", Site::new());
    // Where the layer of an earlier run is found again.
    let place = TcpListener::bind("127.83.68.1:8083").or_else(|_| TcpListener::bind("127.0.0.1:0"));
    let login = format!("user:{LOGIN}");
    let (archive, asked) = archive(place.unwrap(), moment, Some(&login), CancellationToken::new());
    let etc_apt = site.dir.path().join("apt");
    run("cp", &["-r", "/etc/apt", etc_apt.to_str().unwrap()]);
    std::fs::create_dir_all(etc_apt.join("auth.conf.d")).unwrap();
    let entry = format!("machine http://{archive} login user password {LOGIN}\n");
    std::fs::write(etc_apt.join("auth.conf.d/test.conf"), entry).unwrap();
    // Of a mirror that has no part in this image.
    let other = "machine other.invalid login user password of-another-mirror\n";
    std::fs::write(etc_apt.join("auth.conf.d/other.conf"), other).unwrap();
    let mut qemu = small();
    qemu.base = Base::Bootstrap(Bootstrap {
        suite: "trixie".into(),
        mirror: Some(format!("http://{archive}/archive/debian")),
        security_mirror: None,
        snapshot: Some(moment.into()),
        packages: Vec::new(),
    });
    let mut as_user = inline(&["! cat /run/sindri-apt-login && ! apt-config dump | grep -q of-apt"]);
    as_user.user = Some("games".into());
    let spec = image(vec![
        inline(&[
            "apt-get update && apt-get install -y --no-install-recommends bc",
            "test -z \"$(env | grep of-apt)\"",
            "echo it is $(cat /run/sindri-apt-login)",
        ]),
        as_user,
    ]);
    let built = site.build_on(&Host { etc_apt, ..host() }, &spec, &qemu).await.unwrap();
    let asked = asked.lock().unwrap().clone();
    assert!(asked.iter().any(|path| path.starts_with("debian/pool/main/b/bc/")), "{asked:?}");
    let log = site.log_text();
    assert!(log.contains("password (redacted)") && !log.contains(LOGIN), "{log}");
    assert!(!log.contains("other.invalid"), "{log}");
    let inside = Inside::of(&built);
    assert!(inside.list("/usr/bin").contains(&"bc".to_owned()));
    assert_eq!(inside.list("/etc/apt/auth.conf.d"), [""; 0]);
    assert!(!inside.contains(LOGIN), "a login on the disk");
    assert_clean(&inside);
    let esp = format!("{}@@1M", inside.path("disk.raw").display());
    let entry = run("mtype", &["-i", &esp, "::/loader/entries/*.conf"]);
    for line in ["linux      /linux/6.", "initrd     /linux/6.", "options    root=PARTUUID="] {
        assert!(entry.contains(line), "no {line:?} in\n{entry}");
    }
    let kernel = entry.lines().find_map(|line| line.strip_prefix("linux ")).unwrap().trim();
    run("mdir", &["-i", &esp, &format!("::{kernel}"), "::/EFI/BOOT/BOOTX64.EFI"]);
}

/// Leads whoever asks for what lies below the moment's folder to the mirror that this machine's APT uses, up to the first
/// package, which ends the build. With a `login`, only those who have it.
fn archive(
    listener: TcpListener,
    moment: &str,
    login: Option<&str>,
    enough: CancellationToken,
) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let mirrors = ["debian", "debian-security"].map(|name| (name, own_mirror(name)));
    let moment = format!("/{moment}/");
    let login = login.map(|login| format!("Authorization: Basic {}", STANDARD.encode(login)));
    let (address, asked) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let Some(request) = lines.next() else { continue };
            let headers: Vec<_> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
            let is_let_in = login.as_ref().is_none_or(|login| headers.contains(login));
            let path = request.split(' ').nth(1).and_then(|path| path.strip_prefix("/archive/"));
            let parts = path.and_then(|path| path.split_once(&moment));
            let found = parts.and_then(|(name, path)| Some((mirrors.iter().find(|it| it.0 == name)?, path)));
            let (status, to) = match found {
                _ if !is_let_in => {
                    ("401 Unauthorized", "WWW-Authenticate: Basic realm=\"test\"\r\n".to_owned())
                }
                Some(((name, mirror), path)) => {
                    seen.lock().unwrap().push(format!("{name}/{path}"));
                    if path.starts_with("pool/") {
                        enough.cancel();
                    }
                    ("302 Found", format!("Location: {mirror}/{path}\r\n"))
                }
                None => ("404 Not Found", String::new()),
            };
            // A client that goes away is a client's business.
            let _ = write!(stream, "HTTP/1.1 {status}\r\n{to}Content-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    (address, asked)
}

/// One of Debian's archives, as this machine's APT knows it.
fn own_mirror(name: &str) -> String {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let parts = std::fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    files.extend(parts.map(|entry| entry.path()));
    let texts = files.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    let mut words = texts.flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let end = format!("/{name}");
    let found = words.find(|word| word.starts_with("http") && word.trim_end_matches('/').ends_with(&end));
    let found = found.unwrap_or_else(|| panic!("this machine's APT knows no mirror of {name}"));
    found.trim_end_matches('/').to_owned()
}
