//! Packer's command lines. Pure: touches nothing.
//!
//! Values never stand here: they are in files of the template's folder, so that neither a process list nor a log has
//! them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Packer;
use crate::process::Command;

/// Names the folder of what Packer downloads. Where a caller does not say, it is below the temporary one.
pub const CACHE_DIR: &str = "PACKER_CACHE_DIR";

/// What one call works with.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The template's folder.
    pub template: &'a Path,
    /// Packer's own temporary files and caches: a private folder of this call.
    pub tmp: &'a Path,
    /// The folder to run in.
    pub cwd: &'a Path,
}

/// Asks for the version; nothing else is known of the program yet.
pub fn version(program: &Path) -> Command {
    quiet(Command::new(program)).arg("version")
}

/// Gets the plugins that the template requires.
pub fn init(packer: &Packer, call: &Call<'_>) -> Command {
    base(packer, call).arg("init").arg(call.template)
}

/// Checks the template and its values.
pub fn validate(packer: &Packer, call: &Call<'_>) -> Command {
    base(packer, call).arg("validate").arg(call.template)
}

/// Builds. With `keep` Packer removes nothing when it fails.
pub fn build(packer: &Packer, call: &Call<'_>, keep: bool) -> Command {
    let command = base(packer, call).args(["build", "-machine-readable", "-color=false"]);
    let command = if keep { command.arg("-on-error=abort") } else { command };
    command.arg(call.template)
}

/// How a template of the user's own is built.
#[derive(Debug, Clone, Copy)]
pub struct Own<'a> {
    /// Files of values; a later one wins.
    pub var_files: &'a [PathBuf],
    /// The builds that are meant; all when there are none.
    pub only: &'a [String],
    /// Builds and post-processors that are left out.
    pub except: &'a [String],
    /// What Packer does when a build fails, in its own words.
    pub on_error: &'a str,
    /// How many builds run at a time; Packer's default when not set.
    pub parallel_builds: Option<u32>,
    /// Whether what is in the way of an artifact is deleted.
    pub force: bool,
    /// Whether builds run one after the other and tell more.
    pub debug: bool,
}

/// Builds a template of the user's own.
pub fn build_own(packer: &Packer, call: &Call<'_>, own: &Own<'_>) -> Command {
    let mut command = base(packer, call).args(["build", "-machine-readable", "-color=false"]);
    command = command.arg(format!("-on-error={}", own.on_error));
    if let Some(builds) = own.parallel_builds {
        command = command.arg(format!("-parallel-builds={builds}"));
    }
    let flags = [("-force", own.force), ("-debug", own.debug)];
    command = command.args(flags.iter().filter(|(_, set)| *set).map(|(flag, _)| flag));
    for (flag, names) in [("-only", own.only), ("-except", own.except)] {
        if !names.is_empty() {
            command = command.arg(format!("{flag}={}", names.join(",")));
        }
    }
    for file in own.var_files {
        let mut flag = OsString::from("-var-file=");
        flag.push(file);
        command = command.arg(flag);
    }
    command.arg(call.template)
}

fn base(packer: &Packer, call: &Call<'_>) -> Command {
    let mut command = quiet(Command::new(&packer.program)).cwd(call.cwd);
    command.env.extend(packer.env.clone());
    // Packer leaves scripts with everything in them in its temporary folder when it is interrupted. Its plugins' sockets
    // are there, too, whose paths have 108 bytes: so it is named from where Packer runs.
    let tmp = call.tmp.strip_prefix(call.cwd).unwrap_or(call.tmp);
    command.env.entry(CACHE_DIR.into()).or_insert_with(|| call.tmp.join("cache").into());
    command.env("TMPDIR", tmp)
}

/// No colours, and no call home.
fn quiet(command: Command) -> Command {
    command.env("PACKER_NO_COLOR", "1").env("CHECKPOINT_DISABLE", "1")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;
    use crate::packer::Version;

    fn render(command: &Command) -> String {
        let mut text = format!("{}", command.program.display());
        for arg in &command.args {
            text.push_str(&format!(" {}", arg.to_string_lossy()));
        }
        for (name, value) in &command.env {
            text.push_str(&format!("\n  {}={}", name.to_string_lossy(), value.to_string_lossy()));
        }
        if let Some(cwd) = &command.cwd {
            text.push_str(&format!("\n  in {}", cwd.display()));
        }
        text
    }

    #[test]
    fn command_lines() {
        let packer = Packer {
            program: "/opt/packer".into(),
            version: Version::new(1, 10, 0),
            env: [("PACKER_PLUGIN_PATH".into(), "/plugins".into())].into(),
            skip_init: false,
        };
        let call = Call { template: Path::new("packer"), tmp: Path::new("/b/tmp"), cwd: Path::new("/b") };
        let all = [
            version(&packer.program),
            init(&packer, &call),
            validate(&packer, &call),
            build(&packer, &call, false),
            build_own(
                &packer,
                &Call { template: Path::new("/t/web.pkr.hcl"), ..call },
                &Own {
                    var_files: &["/t/a b.pkrvars.hcl".into(), "/b/values.json".into()],
                    only: &["amazon-ebs.web".into(), "qemu.*".into()],
                    except: &["vagrant".into()],
                    on_error: "abort",
                    parallel_builds: Some(0),
                    force: true,
                    debug: true,
                },
            ),
        ];
        let cached = Packer { env: [(CACHE_DIR.into(), "/isos".into())].into(), ..packer.clone() };
        let cached = validate(&cached, &call);
        assert_eq!(cached.env.get(OsStr::new(CACHE_DIR)), Some(&OsString::from("/isos")));
        insta::assert_snapshot!(all.iter().map(render).collect::<Vec<_>>().join("\n"));
    }
}
