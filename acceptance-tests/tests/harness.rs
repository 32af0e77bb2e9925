//! The harness itself, against `terraform_data`, the resource that is built into both programs:
//! a broken harness must not make a provider look right.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use acceptance_tests::web::{Fault, Server};
use acceptance_tests::{Host, each_cli, repository};
use anyhow::{Context, Result, ensure};
use serde_json::json;

const BUILT_IN: &str = r#"
variable "content" { type = string }
resource "terraform_data" "one" { input = var.content }
output "content" { value = terraform_data.one.output }
"#;

#[test]
fn a_resource_lives_its_whole_life() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "empty")?;
        workspace.write("main.tf", BUILT_IN)?;
        workspace.variables(&json!({ "content": "first" }))?;

        assert_eq!(workspace.plan()?.action("terraform_data.one"), "create");
        workspace.apply()?;
        workspace.converged()?;
        assert_eq!(workspace.output("content")?, json!("first"));
        assert_eq!(workspace.text("terraform_data.one", "output")?, "first");
        assert!(workspace.state("terraform_data.two")?.is_none());
        assert!(workspace.state_contains("first")? && !workspace.state_contains("second")?);

        workspace.variables(&json!({ "content": "second" }))?;
        let plan = workspace.plan()?;
        let change = plan.change("terraform_data.one").context("no change planned")?;
        assert_eq!(change.action(), "update");
        assert_eq!(change.changed(), ["input", "output"]);
        assert_eq!(change.after["input"], "second");
        assert_eq!(plan.outputs, ["content"]);
        ensure!(workspace.converged().is_err(), "a change passed for convergence");

        let id = workspace.text("terraform_data.one", "id")?;
        workspace.forget("terraform_data.one")?;
        workspace.import("terraform_data.one", &id)?.succeeds()?;
        assert_eq!(workspace.text("terraform_data.one", "id")?, id);
        let plan = workspace.plan_with(&["-replace=terraform_data.one"])?;
        assert_eq!(plan.action("terraform_data.one"), "replace");

        workspace.destroy()?;
        assert!(workspace.state("terraform_data.one")?.is_none());
        host.inventory()?.ensure_empty()
    })
}

const FAILING: &str = r#"
resource "terraform_data" "one" {
  provisioner "local-exec" { command = "echo out of luck >&2; exit 3" }
}
"#;

#[test]
fn a_diagnostic_names_address_line_and_text() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "empty")?;
        workspace.write("main.tf", FAILING)?;
        let errors = workspace.apply_with(&[])?.fails()?;
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].mentions("exit status 3. output: out of luck"), "{}", errors[0]);
        assert_eq!(errors[0].address, "terraform_data.one");
        assert!(errors[0].code.contains("provisioner \"local-exec\""), "{}", errors[0]);
        ensure!(workspace.apply().is_err(), "a failed apply passed for a success");
        Ok(())
    })
}

#[test]
fn an_invalid_configuration_is_reported_by_validate_and_plan() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "empty")?;
        workspace.write("main.tf", "resource \"terraform_data\" \"one\" {\n  nonsense = 1\n}\n")?;
        for outcome in [workspace.run(&["validate", "-json"])?, workspace.run(&["plan", "-json"])?] {
            let errors = outcome.fails()?;
            assert!(errors[0].mentions("unsupported argument"), "{}", errors[0]);
            assert!(errors[0].code.contains("nonsense"), "{}", errors[0]);
        }
        Ok(())
    })
}

#[test]
fn an_interrupted_apply_ends_and_can_be_destroyed() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "empty")?;
        workspace.write(
            "main.tf",
            "resource \"terraform_data\" \"slow\" {\n  provisioner \"local-exec\" { command = \"touch started; exec sleep 60\" }\n}\n",
        )?;
        let mut running = workspace.start_apply()?;
        let started = workspace.path().join("started");
        for _ in 0..500 {
            if started.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        ensure!(started.exists() && !running.has_ended()?, "the apply did not get to its work");
        running.interrupt()?;
        let outcome = running.wait(Duration::from_secs(20))?;
        ensure!(!outcome.success, "an interrupted apply passed for a success");
        workspace.destroy()?;
        Ok(())
    })
}

#[test]
fn a_run_that_never_ends_is_killed() -> Result<()> {
    let host = Host::new()?;
    let workspace = host.workspace(acceptance_tests::Cli::Tofu, "empty")?;
    workspace.write(
        "main.tf",
        "resource \"terraform_data\" \"slow\" {\n  provisioner \"local-exec\" { command = \"exec sleep 60\" }\n}\n",
    )?;
    let error = workspace.start_apply()?.wait(Duration::from_secs(2)).expect_err("an endless run ended");
    assert!(error.to_string().contains("did not end"), "{error}");
    Ok(())
}

#[test]
fn the_inventory_sees_files_processes_and_nothing_else() -> Result<()> {
    let host = Host::new()?;
    host.inventory()?.ensure_empty()?;
    let image = host.data_dir().join("images/one");
    std::fs::create_dir_all(&image)?;
    std::fs::create_dir_all(host.data_dir().join("logs"))?;
    std::fs::write(host.data_dir().join("logs/latest-one.log"), "kept")?;
    host.inventory()?.ensure_empty()?;

    std::fs::write(image.join("disk.qcow2"), "x")?;
    let mut child = Command::new("cat")
        .arg("-")
        .current_dir(&image)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    // A process has no command line to read until its program runs: an echo shows that it does.
    child.stdin.as_mut().context("a pipe")?.write_all(b"!")?;
    child.stdout.as_mut().context("a pipe")?.read_exact(&mut [0])?;
    let inventory = host.inventory();
    child.kill()?;
    child.wait()?;
    let inventory = inventory?;
    assert_eq!(inventory.ids("images"), ["one"]);
    assert_eq!(inventory.processes, [format!("{} cat -", child.id())]);
    assert!(inventory.ensure_empty().is_err());
    Ok(())
}

#[test]
fn a_command_that_hangs_is_shown_and_ended_and_another_left_alone() -> Result<()> {
    let watched = |time: &str, script: &str| {
        let mut watched = Command::new(repository().join("scripts/watched.sh"));
        watched.args([time, "sh", "-c", script]).stdin(Stdio::null()).output()
    };
    let begun = Instant::now();
    let hung = watched("1", "echo begun; sleep 600 | cat; exit 3")?;
    let told = String::from_utf8(hung.stderr)?;
    assert_eq!((hung.status.code(), hung.stdout), (Some(3), b"begun\n".to_vec()), "{told}");
    assert!(told.starts_with("Not done in time:\n"), "{told}");
    assert!(told.contains(": sleep 600 \n    thread sleep: "), "{told}");
    let fine = watched("600", "echo fine; exit 4")?;
    assert_eq!((fine.status.code(), fine.stdout, fine.stderr), (Some(4), b"fine\n".to_vec(), Vec::new()));
    ensure!(begun.elapsed() < Duration::from_secs(60), "it was waited for");
    Ok(())
}

fn get(url: &str, range: &str) -> Result<(String, Vec<u8>)> {
    let (address, path) =
        url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).context("a URL")?;
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {address}\r\n{range}\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("no end of the head")?;
    Ok((String::from_utf8(answer[..end].to_vec())?, answer.split_off(end + 4)))
}

#[test]
fn the_server_serves_whole_files_ranges_and_faults() -> Result<()> {
    let server = Server::start()?;
    let content: Vec<u8> = (0..200_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let url = server.publish("/disk", content.clone());

    let (head, body) = get(&url, "")?;
    assert!(head.starts_with("HTTP/1.1 200") && body == content, "{head}");
    let (head, body) = get(&url, "Range: bytes=150000-\r\n")?;
    assert!(head.starts_with("HTTP/1.1 206") && head.contains("bytes 150000-199999/200000"), "{head}");
    assert_eq!(body, content[150_000..]);
    assert!(get(&url, "Range: bytes=200000-\r\n")?.0.starts_with("HTTP/1.1 416"));
    assert!(get(&url.replace("disk", "none"), "")?.0.starts_with("HTTP/1.1 404"));

    server.fault("/disk", Fault::Cut { after: 1000, times: 1 });
    assert_eq!(get(&url, "")?.1, content[..1000]);
    assert_eq!(get(&url, "")?.1, content);
    server.fault("/disk", Fault::Status { code: 503, times: 2 });
    assert!(get(&url, "")?.0.starts_with("HTTP/1.1 503") && get(&url, "")?.0.starts_with("HTTP/1.1 503"));
    assert_eq!(get(&url, "")?.1, content);
    server.fault("/disk", Fault::Slow(Duration::from_millis(10)));
    assert_eq!(get(&url, "")?.1, content);
    assert_eq!(server.requests().len(), 10);
    assert_eq!(server.requests()[1].from, Some(150_000));
    Ok(())
}
