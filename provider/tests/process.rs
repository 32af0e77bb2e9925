//! Real programs under the real supervisor.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests, and what supports them")]

use std::time::{Duration, Instant};

use sindri::process::{BuildLog, Command, Ending, Following, Limits, ProcessError, Redactor, Runner, Secret};
use tokio_util::sync::CancellationToken;

fn runner() -> Runner {
    Runner::new(env!("CARGO_BIN_EXE_terraform-provider-sindri"))
}

fn unbounded() -> Limits {
    Limits::cancelled_by(&CancellationToken::new())
}

fn sh(script: &str) -> Command {
    Command::new("sh").arg("-c").arg(script)
}

/// Whether a process with this id is there and not a zombie.
fn alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn output_goes_to_the_log_in_order_and_redacted() {
    let dir = tempfile::tempdir().unwrap();
    let log = BuildLog::create(dir.path(), "t", "1", Redactor::new([&Secret::new("hunter22")])).unwrap();
    let finished = runner()
        .run(&sh("echo one; echo two hunter22 >&2; printf three; exit 3"), Some(&log), &unbounded())
        .await
        .unwrap();
    assert_eq!(finished.code, 3);
    assert_eq!(finished.output, "one\ntwo (redacted)\nthree\n");
    assert_eq!(std::fs::read_to_string(log.path()).unwrap(), finished.output);
}

#[tokio::test]
async fn a_program_sees_only_the_environment_it_was_given() {
    let command = Command::new("env").env("GIVEN", "a b\"c");
    let output = runner().check(&command, None, &unbounded()).await.unwrap();
    assert!(output.contains("GIVEN=a b\"c\n"), "{output}");
    assert!(!output.contains("CARGO"), "{output}");
}

#[tokio::test]
async fn errors_name_the_program() {
    let cases = [
        (Command::new("no-such-program"), "no-such-program is not installed or not in PATH"),
        (Command::new("/no/such/program"), "program is not installed or not in PATH"),
        (sh("echo why; kill -9 $$"), "sh failed with exit code 137"),
    ];
    for (command, message) in cases {
        let error = runner().check(&command, None, &unbounded()).await.unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let limits = Limits { timeout: Some(Duration::from_millis(200)), ..unbounded() };
    let error = runner().run(&sh("sleep 60"), None, &limits).await.unwrap_err();
    assert!(matches!(error, ProcessError::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn cancel_ends_the_whole_tree() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    // One child in the group, one that left it: both ignore SIGTERM.
    let script = format!(
        "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ >> {0}; sleep 100; :' & setsid sh -c 'trap \"\" TERM; echo $$ >> {0}; sleep 100; :' & echo $$ >> {0}; wait; sleep 100",
        pids.display()
    );
    let cancel = CancellationToken::new();
    let started = Instant::now();
    let stop = async {
        while std::fs::read_to_string(&pids).unwrap_or_default().lines().count() < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        cancel.cancel();
    };
    let (runner, command, limits) = (runner(), sh(&script), Limits::cancelled_by(&cancel));
    let (result, ()) = tokio::join!(runner.run(&command, None, &limits), stop);
    assert!(matches!(result, Err(ProcessError::Cancelled { .. })), "{result:?}");
    assert!(started.elapsed() < Duration::from_secs(30));
    for pid in std::fs::read_to_string(&pids).unwrap().lines() {
        assert!(!alive(pid), "process {pid} is still there");
    }
}

#[tokio::test]
async fn a_dropped_run_ends_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let (runner, command, limits) =
        (runner(), sh(&format!("echo $$ > {}; exec sleep 100", pid.display())), unbounded());
    {
        let run = runner.run(&command, None, &limits);
        tokio::pin!(run);
        while std::fs::read_to_string(&pid).unwrap_or_default().trim().is_empty() {
            let _ = tokio::time::timeout(Duration::from_millis(50), &mut run).await;
        }
    }
    let pid = std::fs::read_to_string(&pid).unwrap();
    let started = Instant::now();
    while alive(&pid) {
        assert!(started.elapsed() < Duration::from_secs(10), "process {pid} is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What its program had started lives on, and keeps the output open.
#[tokio::test]
async fn a_killed_supervisors_output_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let script = format!("sleep 300 & echo $! > {}; kill -KILL $PPID; wait", pid.display());
    let finished = runner().run(&sh(&script), None, &unbounded()).await.unwrap();
    assert_eq!(finished.code, 137);
    let pid = std::fs::read_to_string(&pid).unwrap();
    assert!(alive(&pid));
    assert!(std::process::Command::new("kill").arg(pid.trim()).status().unwrap().success());
}

fn following(output: &std::path::Path, ending: Ending) -> Following<'_> {
    Following { output, keep: false, ending, then: None }
}

#[tokio::test]
async fn output_in_a_file_is_read_along_to_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("output");
    let mut lines = Vec::new();
    let script = "echo one; echo two >&2; head -c 200000 /dev/zero | tr '\\0' x; echo; printf last; exit 3";
    let code = runner()
        .follow(&sh(script), &following(&file, Ending::default()), &unbounded(), |line| {
            lines.push(line.to_owned());
        })
        .await
        .unwrap();
    assert_eq!(code, 3);
    let lengths: Vec<usize> = lines.iter().map(String::len).collect();
    assert_eq!(lengths, [3, 3, 64 * 1024, 4], "a line is cut at 64 KiB");
    let meta = std::fs::metadata(&file).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777, 0o600);
}

#[tokio::test]
async fn output_stays_in_its_file_where_it_is_to_be_kept() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("output");
    for keep in [false, true] {
        let following = Following { keep, ..following(&file, Ending::default()) };
        runner().follow(&sh("echo one"), &following, &unbounded(), |_| {}).await.unwrap();
        let written = std::fs::read(&file).unwrap();
        assert_eq!(written.len(), 4);
        if keep {
            assert_eq!(written, b"one\n");
        }
    }
}

/// A program with a child, as Packer with QEMU: only the program itself is told, ends its child, and has the time
/// that it needs.
#[tokio::test]
async fn a_program_that_cleans_up_itself_is_told_alone_and_given_time() {
    let dir = tempfile::tempdir().unwrap();
    let script = "sh -c 'trap \"echo child told; exit\" TERM; while :; do sleep 0.1; done' & \
                  trap 'sleep 6; kill $!; wait; echo cleaned; exit 0' TERM; echo ready; while :; do wait; done";
    let cancel = CancellationToken::new();
    let limits = Limits::cancelled_by(&cancel);
    let ending = Ending { grace: Duration::from_secs(30), alone: true };
    let mut lines = Vec::new();
    let file = dir.path().join("output");
    let outcome = runner()
        .follow(&sh(script), &following(&file, ending), &limits, |line| {
            if line == "ready" {
                cancel.cancel();
            }
            lines.push((line.to_owned(), Instant::now()));
        })
        .await;
    assert!(matches!(outcome, Err(ProcessError::Cancelled { .. })), "{outcome:?}");
    let said: Vec<&str> = lines.iter().map(|(line, _)| line.as_str()).collect();
    assert_eq!(said, ["ready", "child told", "cleaned"]);
    assert!(lines[1].1 - lines[0].1 > Duration::from_secs(5), "the child was told before its parent's time");
}

#[tokio::test]
async fn no_program_has_a_terminal() {
    let output = runner().check(&sh("ps -o tty= -o sid= -o pid= -p $$"), None, &unbounded()).await.unwrap();
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(words[0], "?");
    assert_eq!(words[1], words[2], "it does not lead a session");
}
