//! A test where AWS is the rig's emulator: the test again as a child, with an environment that leads there.

use std::process::Command;

use acceptance_tests::Moto;

/// How many seconds the child may take: longer than any does, however busy the computer is.
const LONGEST: &str = "1800";

/// The stack of the child's threads, in bytes: the provider's threads have it, and builds without optimisation fill 2 MiB.
const STACK: &str = "8388608";

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
    let moto = Moto::start().unwrap();
    // With what it has started.
    let mut child = Command::new("timeout");
    child.args(["--kill-after=10", LONGEST]).arg(std::env::current_exe().unwrap());
    child.args([test, "--nocapture"]).env(INSIDE, "1").env("RUST_MIN_STACK", STACK).envs(moto.environment());
    environment(&mut child);
    let run = child.output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(
        run.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&run.stderr)
    );
}
