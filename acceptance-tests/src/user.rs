//! Runs as somebody who is not root, on a machine where the tests are root's: an account that exists in one mount
//! namespace only, so that the machine's own files stay as they are.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The account's name and ids.
const NAME: &str = "sindri-test";
const ID: u32 = 64_242;
/// The first of its 65,536 subordinate ids.
pub const SUBORDINATE_START: u32 = 1_000_000;

/// Makes everything below `folder` the account's own, and writes a script there that runs `program` as that account.
/// Returns the script. `folder/home` is the home.
///
/// # Errors
/// When a file cannot be written.
pub fn program(folder: &Path, program: &Path) -> Result<std::path::PathBuf> {
    fs::create_dir_all(folder.join("home"))?;
    let passwd = fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
    let home = folder.join("home");
    fs::write(folder.join("passwd"), format!("{passwd}{NAME}:x:{ID}:{ID}::{}:/bin/sh\n", home.display()))?;
    fs::write(folder.join("subordinate"), format!("{NAME}:{SUBORDINATE_START}:65536\n"))?;
    let copy = folder.join(program.file_name().context("a program has a name")?);
    fs::copy(program, &copy)?;

    let script = folder.join("as-user");
    let text = format!(
        r#"#!/bin/sh
exec unshare --mount --propagation private sh -euc '
    mount --bind "$1/passwd" /etc/passwd
    mount --bind "$1/subordinate" /etc/subuid
    mount --bind "$1/subordinate" /etc/subgid
    shift
    exec setpriv --reuid {ID} --regid {ID} --clear-groups "$@"
' as-user '{}' '{}' "$@"
"#,
        folder.display(),
        copy.display(),
    );
    fs::write(&script, text)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

/// Gives a folder with all that is in it to the account.
///
/// # Errors
/// When it cannot be given away.
pub fn give(folder: &Path) -> Result<()> {
    let given = Command::new("chown").arg("-R").arg(format!("{ID}:{ID}")).arg(folder).status()?;
    ensure!(given.success(), "{} cannot be given to an ordinary user", folder.display());
    Ok(())
}
