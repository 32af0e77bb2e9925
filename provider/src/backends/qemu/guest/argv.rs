//! A guest's specification as a QEMU command line. Pure: touches nothing on the host.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::spec::{Disk, DiskAccess, Forward, GuestSpec};
use crate::backends::qemu::host::{Accelerator, Emulator, Firmware};
use crate::backends::qemu::{Arch, Network};
use crate::process::Command;

/// The guest's own firmware variables, in its folder.
pub(super) const VARS: &str = "efi-vars.fd";
/// What the guest prints on its serial line, in its folder.
pub(super) const CONSOLE: &str = "console.log";
/// QEMU's control socket, in the guest's folder: socket paths have 108 bytes, a name always fits.
pub(super) const QMP: &str = "qmp.sock";
/// QEMU's process id, in the guest's folder.
pub(super) const PIDFILE: &str = "qemu.pid";

/// The command that runs the guest, to be started in the guest's folder. A forward without a host port is
/// left out: choose ports first. The firmware finds a boot loader on the first disk.
pub(super) fn command(spec: &GuestSpec, emulator: &Emulator, firmware: &Firmware, dir: &Path) -> Command {
    let mut command = Command::new(&emulator.program)
        .cwd(dir)
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-sandbox", sandbox(emulator)])
        .arg("-name")
        .arg(value([("guest=", OsStr::new(&spec.name))]))
        .args(["-uuid", &spec.id.to_string()])
        .args(["-machine", machine(emulator)])
        .args(["-accel", accelerator(emulator.accelerator)])
        .args(["-cpu", cpu(emulator)])
        .args(["-smp", &spec.cpus.to_string()])
        .args(["-m", &format!("{}M", spec.memory_mb)])
        .arg("-drive")
        .arg(value([("if=pflash,unit=0,format=raw,readonly=on,file=", firmware.code.as_os_str())]))
        .args(["-drive", &format!("if=pflash,unit=1,format=raw,file={VARS}")]);
    for (index, it) in spec.disks.iter().enumerate() {
        command = disk(command, index, it);
    }
    command = command
        .args(["-netdev", &netdev(spec.network, &spec.forwards)])
        // Without an option ROM the firmware does not try to boot from the network.
        .args(["-device", "virtio-net-pci,netdev=net0,romfile="])
        .args(["-device", "virtio-rng-pci"])
        .args([
            "-chardev",
            &format!("file,id=console,path={CONSOLE},append=on"),
            "-serial",
            "chardev:console",
        ])
        .args(["-chardev", &format!("socket,id=qmp,path={QMP},server=on,wait=off")])
        .args(["-mon", "chardev=qmp,mode=control"])
        .args(["-pidfile", PIDFILE]);
    for (name, content) in &spec.credentials {
        command = command.arg("-smbios").arg(credential(name, content));
    }
    match &emulator.run_as {
        Some(run_as) => command.args(run_as),
        None => command,
    }
}

/// QEMU starts no program and changes no user, but to give up root. (`-daemonize` would need more: it forks.)
fn sandbox(emulator: &Emulator) -> &'static str {
    match emulator.run_as {
        Some(_) => "on,obsolete=deny,spawn=deny,resourcecontrol=deny",
        None => "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    }
}

fn machine(emulator: &Emulator) -> &'static str {
    match (emulator.arch, emulator.accelerator) {
        (Arch::X86_64, _) => "q35,smm=off,vmport=off",
        (Arch::Arm64, Accelerator::Kvm) => "virt,gic-version=host",
        (Arch::Arm64, _) => "virt",
    }
}

fn accelerator(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Tcg => "tcg,thread=multi",
        hardware => hardware.name(),
    }
}

fn cpu(emulator: &Emulator) -> &'static str {
    match (emulator.accelerator, emulator.arch) {
        // The architected pointer authentication is the most costly thing to translate.
        (Accelerator::Tcg, Arch::Arm64) => "max,pauth-impdef=on",
        // `rep movsb` is emulated byte by byte: a guest that is told that it is fast (ERMS, FSRM) copies its memory by it, and
        // takes a tenth longer to its login. FSRM is known to QEMU since 5.2.
        (Accelerator::Tcg, Arch::X86_64) => "max,-erms,-fsrm",
        (Accelerator::Kvm | Accelerator::Hvf, _) => "host",
    }
}

fn disk(command: Command, index: usize, disk: &Disk) -> Command {
    let (read_only, cache) = match disk.access {
        DiskAccess::ReadOnly => ("on", ""),
        DiskAccess::Durable => ("off", ""),
        DiskAccess::Fast => ("off", ",cache.no-flush=on"),
    };
    let options = format!(
        "driver={},node-name=disk{index},read-only={read_only},discard=unmap{cache},file.driver=file,file.filename=",
        disk.format.name()
    );
    let boot = if index == 0 { ",bootindex=0" } else { "" };
    command
        .arg("-blockdev")
        .arg(value([(options.as_str(), disk.file.as_os_str())]))
        .args(["-device", &format!("virtio-blk-pci,drive=disk{index}{boot}")])
}

fn netdev(network: Network, forwards: &[Forward]) -> String {
    let mut options = "user,id=net0,ipv6=off".to_owned();
    // Steps in a guest reach mirrors through our login there.
    if network != Network::User {
        options.push_str(",restrict=on");
    }
    for forward in forwards {
        if let Some(host) = forward.host {
            let (protocol, guest) = (forward.protocol.name(), forward.guest);
            options.push_str(&format!(",hostfwd={protocol}:127.0.0.1:{host}-:{guest}"));
        }
    }
    options
}

fn credential(name: &str, content: &str) -> OsString {
    let content = STANDARD.encode(content);
    value([("type=11,value=io.systemd.credential.binary:", OsStr::new(&format!("{name}={content}")))])
}

/// Options whose values may hold anything: QEMU takes a doubled comma for a comma.
fn value<'a>(options: impl IntoIterator<Item = (&'a str, &'a OsStr)>) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut bytes = Vec::new();
    for (prefix, content) in options {
        bytes.extend_from_slice(prefix.as_bytes());
        for byte in content.as_bytes() {
            bytes.push(*byte);
            if *byte == b',' {
                bytes.push(b',');
            }
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use uuid::Uuid;

    use super::*;
    use crate::backends::qemu::DiskFormat;
    use crate::backends::qemu::guest::spec::{Lifetime, Protocol};

    fn spec() -> GuestSpec {
        GuestSpec {
            id: Uuid::from_u128(7),
            name: "dev".into(),
            cpus: 2,
            memory_mb: 2048,
            disks: vec![Disk {
                file: "disk.qcow2".into(),
                format: DiskFormat::Qcow2,
                access: DiskAccess::Durable,
            }],
            network: Network::User,
            forwards: vec![Forward { host: Some(2222), ..Forward::SSH }],
            credentials: BTreeMap::new(),
            lifetime: Lifetime::WithProvider,
        }
    }

    fn emulator(arch: Arch, accelerator: Accelerator) -> Emulator {
        Emulator { arch, program: "/usr/bin/qemu".into(), accelerator, firmware: None, run_as: None }
    }

    fn firmware() -> Firmware {
        Firmware { code: "/fw/CODE.fd".into(), vars: "/fw/VARS.fd".into() }
    }

    /// One option and its value on each line, the way a person reads a command line.
    fn render(spec: &GuestSpec, emulator: &Emulator) -> String {
        let command = command(spec, emulator, &firmware(), Path::new("/vms/7"));
        let mut text = format!("{} (in {})", command.program.display(), command.cwd.unwrap().display());
        for arg in &command.args {
            let arg = arg.to_string_lossy();
            text.push_str(if arg.starts_with('-') { "\n" } else { " " });
            text.push_str(&arg);
        }
        text
    }

    #[test]
    fn command_lines() {
        use Accelerator::{Hvf, Kvm, Tcg};
        insta::assert_snapshot!("x86_64_kvm", render(&spec(), &emulator(Arch::X86_64, Kvm)));
        insta::assert_snapshot!("x86_64_tcg", render(&spec(), &emulator(Arch::X86_64, Tcg)));
        insta::assert_snapshot!("arm64_kvm", render(&spec(), &emulator(Arch::Arm64, Kvm)));
        insta::assert_snapshot!("arm64_tcg", render(&spec(), &emulator(Arch::Arm64, Tcg)));
        insta::assert_snapshot!("arm64_hvf", render(&spec(), &emulator(Arch::Arm64, Hvf)));
    }

    #[test]
    fn as_root_with_ports_seed_and_key() {
        let mut spec = spec().admit("root", "ssh-ed25519 AAAA test\n");
        spec.network = Network::None;
        spec.forwards.push(Forward { protocol: Protocol::Udp, host: Some(5353), guest: 53 });
        spec.forwards.push(Forward { protocol: Protocol::Tcp, host: None, guest: 80 });
        let format = DiskFormat::Raw;
        spec.disks.push(Disk { file: "seed.img".into(), format, access: DiskAccess::ReadOnly });
        let mut emulator = emulator(Arch::X86_64, Accelerator::Kvm);
        emulator.run_as = Some(["-runas".into(), "nobody".into()]);
        insta::assert_snapshot!("as_root", render(&spec, &emulator));
    }

    #[test]
    fn only_a_users_network_leads_out() {
        for (network, expected) in [
            (Network::User, "user,id=net0,ipv6=off"),
            (Network::Mirror, "user,id=net0,ipv6=off,restrict=on"),
            (Network::None, "user,id=net0,ipv6=off,restrict=on"),
        ] {
            assert_eq!(netdev(network, &[]), expected);
        }
    }

    #[test]
    fn hostile_names_and_paths() {
        let mut spec = spec();
        spec.name = "a,debug-threads=on".into();
        spec.disks[0].file = PathBuf::from("/data,x=y/d.raw");
        spec.disks[0].access = DiskAccess::Fast;
        insta::assert_snapshot!("hostile", render(&spec, &emulator(Arch::X86_64, Accelerator::Tcg)));
    }
}
