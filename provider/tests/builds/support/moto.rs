//! An EC2 of a test's own: the rig's emulator as a process, and the test again as its child, with an environment
//! that leads there.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// Set for the child.
const INSIDE: &str = "SINDRI_TEST_INSIDE_MOTO";

/// Runs the body of the test with this name, which no other test's name contains, where AWS is the emulator.
pub(crate) fn under_moto(test: &str, body: impl AsyncFnOnce()) {
    under_moto_with(test, |_| (), body);
}

/// [`under_moto`] with a change of the child's environment.
pub(crate) fn under_moto_with(test: &str, environment: impl FnOnce(&mut Command), body: impl AsyncFnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(body());
        return;
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let tool = Command::new(repository.join("scripts/tools.sh")).arg("moto").output().unwrap();
    let mut moto = Command::new(String::from_utf8(tool.stdout).unwrap().trim())
        .args(["-m", "rig"])
        .current_dir(repository.join("acceptance-tests/rig/moto"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(moto.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let told: serde_json::Value = serde_json::from_str(&line).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args([test, "--nocapture"])
        .env(INSIDE, "1")
        .env("AWS_ENDPOINT_URL", told["url"].as_str().unwrap())
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_REGION", "us-west-2");
    environment(&mut child);
    let run = child.output().unwrap();
    // The emulator ends with its input.
    drop(moto.stdin.take());
    moto.wait().unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(
        run.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&run.stderr)
    );
}
