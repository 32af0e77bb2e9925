//! `sindri_vm`: its whole life, power, drift, user data, ports.

use std::cell::Cell;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use acceptance_tests::{Diagnostic, Host, Workspace, disk, each_cli, either_cli, merged};
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

const VM: &str = "sindri_vm.it";

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The QEMU process that runs the host's one VM.
fn qemu(host: &Host) -> Result<Pid> {
    let processes = host.inventory()?.processes;
    let of_qemu = processes.iter().find(|process| process.contains("qemu-system"));
    let pid = of_qemu.and_then(|process| process.split(' ').next()?.parse().ok()).and_then(Pid::from_raw);
    pid.with_context(|| format!("no QEMU among {processes:?}"))
}

fn kill(pid: Pid) -> Result<()> {
    kill_process(pid, Signal::KILL)?;
    while fs::exists(format!("/proc/{}/cmdline", pid.as_raw_nonzero()))?
        && !fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default().is_empty()
    {
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// For machines that nobody logs in to.
fn with_a_blank_disk(host: &Host, workspace: &Workspace, boot: bool) -> Result<()> {
    let base =
        format!("boot         = {boot}\n    base         = {{ image = {:?} }}", disk::blank(host.path())?);
    workspace.edit("main.tf", "base         = { bootstrap = { suite = var.suite } }", &base)
}

/// Ends a scenario whose guest need not be asked to switch itself off, which takes an emulated one its time.
fn end(host: &Host, workspace: &Workspace) -> Result<()> {
    kill(qemu(host)?)?;
    workspace.destroy()?;
    host.inventory()?.ensure_empty()
}

/// What is in the guest does not depend on the program: the second one's machine is never switched on.
#[test]
fn a_vm_lives_its_whole_life_and_longer_than_its_image() -> Result<()> {
    let is_looked_into = Cell::new(false);
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "qemu-vm")?;
        let port = free_port()?;
        let state = if is_looked_into.replace(true) { "stopped" } else { "running" };
        workspace.variables(&json!({ "web_port": port, "power_state": state }))?;
        workspace.apply()?;
        workspace.converged()?;

        let vm = workspace.resource("sindri_vm.web")?;
        assert_eq!(vm["status"], state);
        let key = PathBuf::from(vm["ssh_private_key_path"].as_str().context("no key")?);
        assert_eq!(fs::metadata(&key)?.permissions().mode() & 0o777, 0o600, "{}", key.display());
        let inventory = workspace.output("ansible_inventory")?;
        let line = format!("ansible_port: {}\n", vm["ssh_port"]);
        assert!(inventory.as_str().is_some_and(|text| text.contains(&line)), "{inventory}");
        let config = workspace.output("ssh_config")?;
        let config = config.as_str().context("not text")?;
        ensure!(config.contains(&format!("Port {}\n", vm["ssh_port"])), "{config}");
        workspace.write("ssh_config", config)?;
        if state == "running" {
            at_work(&workspace, &vm, port)?;
        }
        for (address, id) in [("sindri_vm.web", &vm["id"]), ("sindri_image.web", &vm["image_id"])] {
            workspace.import_again(address, &format!("qemu/{}", id.as_str().context("no id")?))?;
        }

        let image = PathBuf::from(workspace.text("sindri_image.web", "path")?);
        fs::remove_dir_all(image.parent().context("a disk without a folder")?)?;
        if state == "running" {
            // From its disk, and more than it keeps in memory.
            workspace.guest("sindri_vm.web")?.run("sudo cat /usr/share/zoneinfo/*/* | sha256sum")?;
        }
        workspace.destroy()?;
        host.inventory()?.ensure_empty()
    })
}

/// What a machine that runs does for its user.
fn at_work(workspace: &Workspace, vm: &serde_json::Value, port: u16) -> Result<()> {
    let guest = workspace.guest("sindri_vm.web")?;
    assert_eq!(guest.run("hostname; cat /etc/from-user-data")?, "web\nuser data was here");
    assert!(get(port)?.contains("served by Sindri"));
    assert!(!fs::read_to_string(vm["console_log_path"].as_str().context("no console log")?)?.is_empty());
    assert_eq!(by_config(&workspace.path().join("ssh_config"), "web")?, "web\n");
    ensure!(!listens_beyond_loopback(port)?, "port {port} is open to the world");
    Ok(())
}

/// The host name that a machine tells when OpenSSH knows it by its configuration alone.
fn by_config(config: &Path, machine: &str) -> Result<String> {
    let output = Command::new("ssh")
        .arg("-F")
        .arg(config)
        .args(["-o", "BatchMode=yes", machine, "hostname"])
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn get(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Whether the kernel has a listening socket on this port at another address than 127.0.0.1.
fn listens_beyond_loopback(port: u16) -> Result<bool> {
    let table =
        fs::read_to_string("/proc/net/tcp")? + &fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
    let suffix = format!(":{port:04X}");
    let listening = table.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, _, state) = (words.next()?, words.next()?, words.next()?);
        (state == "0A" && local.ends_with(&suffix)).then(|| local.to_owned())
    });
    Ok(listening.into_iter().any(|local| !local.starts_with("0100007F:")))
}

/// One machine, which is killed, stopped and started with what it was given in the beginning.
#[test]
fn write_only_user_data_reach_the_guest_and_power_changes_in_place() -> Result<()> {
    either_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "vm")?;
        workspace.variables(&write_only("cloud-init"))?;
        workspace.apply()?;
        workspace.converged()?;
        let id = workspace.text(VM, "id")?;
        assert_eq!(workspace.guest(VM)?.run("sudo touch /kept && sync && sudo cat /etc/canary")?, CANARY);
        assert!(!workspace.state_contains(CANARY)?, "the secret is in the state");

        kill(qemu(&host)?)?;
        let plan = workspace.plan()?;
        let change = plan.change(VM).context("a killed machine was not noticed")?;
        assert_eq!(change.action(), "update", "{plan}");
        assert_eq!(change.before["status"], "stopped");
        workspace.variables(&write_only("ssh"))?;
        workspace.apply()?;
        workspace.converged()?;
        assert_eq!(workspace.text(VM, "id")?, id);
        workspace.guest(VM)?.run("test -e /kept")?;

        power(&workspace, "stopped", "ssh", &id)?;
        assert_eq!(host.inventory()?.processes, Vec::<String>::new());
        workspace.import_again(VM, &format!("qemu/{id}"))?;
        assert_eq!(workspace.text(VM, "id")?, id);
        // That a start is waited for was seen above.
        power(&workspace, "running", "none", &id)?;
        end(&host, &workspace)
    })
}

const PUBLIC_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBW6/cPbCjY6KkJkP23ZJqQ0eZ3RhacaR9NoDI4jEQl1 ann";

/// None of these changes concerns what is on the disk.
#[test]
fn where_a_private_key_lies_is_no_reason_to_make_a_machine_anew() -> Result<()> {
    either_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "vm")?;
        with_a_blank_disk(&host, &workspace, false)?;
        let with = |ssh: serde_json::Value| json!({ "power_state": "stopped", "ssh": ssh });
        let key = |path: &str| json!({ "public_key": PUBLIC_KEY, "private_key_path": path });
        workspace.variables(&with(key("/one")))?;
        workspace.apply()?;
        workspace.converged()?;
        let id = workspace.text(VM, "id")?;
        let trimmed = json!({ "username": "sindri", "public_key": format!("{PUBLIC_KEY}\n"), "private_key_path": "/two" });
        for (ssh, path) in [
            (key("/two"), json!("/two")),
            (trimmed, json!("/two")),
            (json!({ "public_key": PUBLIC_KEY }), json!(null)),
        ] {
            workspace.variables(&with(ssh.clone()))?;
            let plan = workspace.plan()?;
            assert_eq!(plan.action(VM), "update", "{ssh}: {plan}");
            workspace.apply()?;
            workspace.converged()?;
            let vm = workspace.resource(VM)?;
            assert_eq!((&vm["id"], &vm["ssh_private_key_path"]), (&json!(id), &path), "{ssh}");
            let command = vm["ssh_command"].as_str().context("no command")?;
            assert_eq!(command.contains("/two"), path == json!("/two"), "{command}");
        }
        for ssh in [
            json!({ "username": "ann", "public_key": PUBLIC_KEY }),
            json!({ "public_key": PUBLIC_KEY.replace("Ql1 ann", "Ql2 ann") }),
            json!(null),
        ] {
            workspace.variables(&with(ssh.clone()))?;
            assert_eq!(workspace.plan()?.action(VM), "replace", "{ssh}");
        }
        workspace.destroy()?;
        host.inventory()?.ensure_empty()
    })
}

/// Of two machines on this computer, and of whoever else listens.
#[test]
fn ports_are_told_and_another_one_for_ssh_is_found() -> Result<()> {
    either_cli(|cli| {
        let host = Host::new()?;
        let (one, two) = (host.workspace(cli, "vm")?, host.workspace(cli, "vm")?);
        let port = free_port()?;
        let variables = json!({ "wait_for": "none", "ports": { "web": { "guest": 80, "host": port } } });
        for workspace in [&one, &two] {
            with_a_blank_disk(&host, workspace, false)?;
            workspace.variables(&variables)?;
        }
        one.apply()?;
        let id = one.text(VM, "id")?;
        let errors = two.apply_with(&[])?.fails()?;
        let told = |words: &[&str]| errors.iter().any(|error| words.iter().all(|word| error.mentions(word)));
        ensure!(told(&[&port.to_string(), "machine \"it\"", &format!("qemu/{id}")]), "{errors:?}");
        two.destroy()?;
        let swept = host.provider(&["sweep", "--dry-run"])?;
        let swept = String::from_utf8_lossy(&swept.stdout).into_owned();
        ensure!(swept.contains(&format!("machine \"it\" ({id}), running, from image ")), "{swept}");
        ensure!(swept.contains("nothing to remove"), "{swept}");

        kill(qemu(&host)?)?;
        let before = one.resource(VM)?["ssh_port"].as_u64().context("no port")?;
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, u16::try_from(before)?))?;
        let plan = one.plan()?;
        let unknown = &plan.change(VM).context("no change")?.after_unknown;
        assert_eq!((plan.action(VM), &unknown["ssh_port"]), ("update", &json!(true)), "{plan}");
        one.apply()?;
        one.converged()?;
        let vm = one.resource(VM)?;
        let after = vm["ssh_port"].as_u64().context("no port")?;
        ensure!(after != before && vm["id"] == json!(id), "{vm}");
        ensure!(vm["ssh_command"].as_str().is_some_and(|line| line.contains(&after.to_string())), "{vm}");
        drop(taken);
        swept_by_name(&host, &id)?;
        one.destroy()?;
        host.inventory()?.ensure_empty()
    })
}

/// As one whose state was never stored, and nothing beside it.
fn swept_by_name(host: &Host, id: &str) -> Result<()> {
    let told = |arguments: &[&str]| -> Result<(bool, String)> {
        let output = host.provider(arguments)?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
    };
    let before = host.inventory()?;
    let (ok, text) = told(&["sweep", "--vm", "it"])?;
    ensure!(!ok && text.contains("\"it\" is no machine of this computer"), "{text}");
    let (ok, text) = told(&["sweep", "--vm", id, "--dry-run"])?;
    let what = format!("machine \"it\" ({id}), running, from image ");
    ensure!(ok && text.contains(&format!("would remove {what}")), "{text}");
    assert_eq!(host.inventory()?.to_string(), before.to_string());
    let (ok, text) = told(&["sweep", "--vm", id])?;
    ensure!(ok && text.contains(&format!("removed {what}")), "{text}");
    let after = host.inventory()?;
    assert_eq!(after.processes, Vec::<String>::new());
    assert_eq!((after.ids("vms"), after.ids("images")), (Vec::new(), before.ids("images")));
    Ok(())
}

fn power(workspace: &Workspace, state: &str, wait_for: &str, id: &str) -> Result<()> {
    workspace.variables(&merged(write_only(wait_for), json!({ "power_state": state })))?;
    let plan = workspace.plan()?;
    assert_eq!(plan.action(VM), "update", "to {state}");
    let unknown = &plan.change(VM).context("no change")?.after_unknown;
    assert!(unknown["public_ip"].is_null(), "what it does not have is not \"known after apply\": {unknown}");
    workspace.apply()?;
    workspace.converged().with_context(|| format!("when {state}"))?;
    assert_eq!(workspace.text(VM, "status")?, state);
    assert_eq!(workspace.text(VM, "id")?, id);
    Ok(())
}

#[test]
fn a_removed_folder_is_noticed() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "vm")?;
        with_a_blank_disk(&host, &workspace, false)?;
        let variables = json!({ "wait_for": "none", "disk_size_gb": 6 });
        workspace.variables(&variables)?;
        workspace.apply()?;
        let id = workspace.text(VM, "id")?;
        workspace.variables(&json!({ "wait_for": "none", "disk_size_gb": 5 }))?;
        assert_eq!(workspace.plan()?.action(VM), "replace", "a disk cannot shrink");
        workspace.variables(&variables)?;
        let record = host.data_dir().join("vms").join(&id).join("machine.json");
        let good = fs::read(&record)?;
        fs::write(&record, "{")?;
        workspace.converged().context("a damaged record must not keep anybody from planning")?;
        fs::write(&record, good)?;
        kill(qemu(&host)?)?;
        fs::remove_dir_all(host.data_dir().join("vms").join(&id))?;
        assert_eq!(workspace.plan()?.action(VM), "create");
        workspace.apply()?;
        workspace.converged()?;
        assert_ne!(workspace.text(VM, "id")?, id);

        kill(qemu(&host)?)?;
        fs::remove_dir_all(host.data_dir().join("vms").join(workspace.text(VM, "id")?))?;
        workspace.run(&["destroy", "-json", "-auto-approve", &format!("-target={VM}")])?.succeeds()?;

        workspace.apply()?;
        qemu(&host)?;
        let record = host.data_dir().join("vms").join(workspace.text(VM, "id")?).join("machine.json");
        fs::write(&record, "{")?;
        workspace.destroy().context("a damaged record must not keep anybody from destroying")?;
        host.inventory()?.ensure_empty()
    })
}

const CANARY: &str = "canary-7d1f";

/// User data with a secret that must be found nowhere but in the guest.
fn write_only(wait_for: &str) -> serde_json::Value {
    let user_data =
        format!("#cloud-config\nwrite_files:\n  - path: /etc/canary\n    content: \"{CANARY}\"\n");
    json!({ "user_data_wo": user_data, "user_data_wo_version": 1, "wait_for": wait_for })
}

#[test]
fn user_data_are_written_once_and_secrets_stay_secret() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "vm")?;
        with_a_blank_disk(&host, &workspace, false)?;
        let variables = write_only("none");
        workspace.variables(&variables)?;
        workspace.apply()?;
        workspace.converged()?;
        assert!(!workspace.state_contains(CANARY)?, "the secret is in the state");
        let arguments = host.inventory()?.processes.join("\n");
        assert!(arguments.contains("qemu-system") && !arguments.contains(CANARY), "{arguments}");
        let id = workspace.text(VM, "id")?;
        let seed = fs::read(host.data_dir().join("vms").join(&id).join("seed.img"))?;
        ensure!(String::from_utf8_lossy(&seed).contains(CANARY), "the host handed over no user data");

        let mut raised = variables.clone();
        raised["user_data_wo_version"] = json!(2);
        workspace.variables(&raised)?;
        assert_eq!(workspace.plan()?.action(VM), "update", "user data does not run again");
        workspace.apply()?;
        raised["user_data_replace_on_change"] = json!(true);
        workspace.variables(&raised)?;
        workspace.apply()?;
        raised["user_data_wo_version"] = json!(3);
        workspace.variables(&raised)?;
        assert_eq!(workspace.plan()?.action(VM), "replace", "unless the user says so");
        assert_eq!(workspace.text(VM, "id")?, id);

        end(&host, &workspace)
    })
}

#[test]
fn a_port_in_use_is_named_and_leaves_nothing() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "vm")?;
        with_a_blank_disk(&host, &workspace, false)?;
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = taken.local_addr()?.port();
        workspace.variables(&json!({ "ports": { "web.1": { "guest": 80, "host": port } } }))?;
        let errors = workspace.apply_with(&[])?.fails()?;
        let told = |error: &Diagnostic| {
            let words = [&port.to_string(), "in use"];
            error.address == VM
                && error.is_about("qemu.ports[\"web.1\"].host")
                && words.iter().all(|word| error.mentions(word))
        };
        ensure!(errors.iter().any(told), "{errors:?}");
        workspace.destroy()?;
        host.inventory()?.ensure_empty()
    })
}

#[test]
fn a_guest_that_never_comes_up_is_told_with_its_console() -> Result<()> {
    const TIME: &str = "45s";
    either_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "vm")?;
        with_a_blank_disk(&host, &workspace, true)?;
        let lifecycle = format!("  timeouts = {{ create = {TIME:?} }}\n\n  lifecycle {{");
        workspace.edit("main.tf", "  lifecycle {", &lifecycle)?;
        workspace.variables(&json!({ "create_timeout": TIME }))?;
        for (address, boot) in [("sindri_image.it", "true"), (VM, "false")] {
            workspace.edit("main.tf", "boot         = true", &format!("boot         = {boot}"))?;
            let errors = workspace.apply_with(&[])?.fails()?;
            let told = |error: &Diagnostic| {
                let words = ["took longer than 45s", "the end of its console", "BdsDxe: failed to load"];
                error.address == address && words.iter().all(|word| error.mentions(word))
            };
            ensure!(errors.iter().any(told), "{address}: {errors:?}");
            assert_eq!(host.inventory()?.ids("images").len(), usize::from(address == VM));
        }
        workspace.destroy()?;
        host.inventory()?.ensure_empty()
    })
}
