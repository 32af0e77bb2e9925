//! What a newcomer does first.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use acceptance_tests::{Cli, Host, only_root, repository};
use anyhow::{Context, Result, ensure};

/// The main job, from an empty cache to a login, by somebody who is not root; where the tests themselves are run by such a
/// one, with what the cache has.
#[test]
fn its_example_can_be_applied_by_an_ordinary_user() -> Result<()> {
    let host = Host::new()?;
    let mut workspace = host.workspace(Cli::Tofu, "quickstart")?;
    // As in all scenarios: emulated, two processors wait for each other more than they do.
    workspace.edit("main.tf", "cpus      = 2", "cpus      = 1")?;
    if only_root("become another user")? {
        workspace.as_ordinary_user(&host)?;
    }
    workspace.apply()?;
    workspace.converged()?;

    // In the words of scripts/quickstart.sh, which a user is told to type, too.
    let login = workspace.output("ssh_command")?;
    let login = login.as_str().context("no ssh_command")?;
    let said = Command::new("sh").args(["-c", &format!("{login} hello-sindri")]).output()?;
    ensure!(said.status.success(), "{login}: {}", String::from_utf8_lossy(&said.stderr));
    let said = String::from_utf8(said.stdout)?;
    ensure!(said.starts_with("Hello from ") && said.contains(" on quickstart, provisioned at 20"), "{said}");

    let owners =
        workspace.guest("sindri_vm.quickstart")?.run("stat -c %u:%g /etc/shadow /usr/bin/passwd ~")?;
    assert_eq!(owners.lines().collect::<Vec<_>>(), ["0:42", "0:0", "1000:1000"]);
    for output in ["image_path", "console_log_path"] {
        let path = workspace.output(output)?;
        let file = fs::metadata(path.as_str().with_context(|| format!("no {output}"))?)?;
        assert_ne!(file.uid(), 0, "{output}");
    }
    workspace.destroy()?;
    host.inventory()?.ensure_empty()
}

/// A computer without APT, which lacks one thing more.
#[test]
fn what_is_missing_is_named_where_nothing_can_be_installed() -> Result<()> {
    let host = Host::new()?;
    let path = host.path_without("apt-get")?;
    let install = |path: &Path| {
        let script = repository().join("scripts/install.sh");
        Command::new("sh").arg(script).arg("quickstart").env("PATH", path).output()
    };
    let complete = install(&path)?;
    ensure!(complete.status.success(), "{complete:?}");
    assert_eq!((complete.stdout, complete.stderr), (Vec::new(), Vec::new()), "nothing is missing");

    fs::remove_file(path.join("mmdebstrap"))?;
    let told = install(&path)?;
    assert_eq!((told.status.code(), String::from_utf8(told.stdout)?.as_str()), (Some(1), ""));
    assert_eq!(
        String::from_utf8(told.stderr)?,
        "Missing, and to be installed by you:\n  mmdebstrap (Debian and Ubuntu: mmdebstrap)\n"
    );
    Ok(())
}
