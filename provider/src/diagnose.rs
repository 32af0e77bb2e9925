//! Errors of the lower rooms as diagnostics: a short general summary; the detail says what failed, why, and
//! how to mend it.

use std::error::Error;
use std::io;

use tfplugin::{Diagnostic, Diagnostics, Path};

use crate::backends::Problems;
use crate::domain::BackendError;

/// What to do about a full disk, where those who met it know no better.
const FREE: &str = "Free some space there, or set `data_dir` to a folder on a larger disk.";

/// An error with its causes, on one line each.
pub fn chain(error: &dyn Error) -> String {
    let mut text = sentence(&error.to_string());
    let (mut cause, mut is_full) = (error.source(), false);
    while let Some(error) = cause {
        let line = error.to_string();
        if !text.contains(&line) {
            text.push('\n');
            text.push_str(&sentence(&line));
        }
        is_full |= error.downcast_ref().is_some_and(says_full);
        cause = error.source();
    }
    if is_full && !text.contains("`data_dir`") {
        text.push('\n');
        text.push_str(FREE);
    }
    text
}

fn says_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A backend's error; `summary` says what was to be done, without values.
pub fn backend(summary: &str, error: &BackendError) -> Diagnostic {
    match error {
        BackendError::Build { source, attribute, log, tail } => {
            let mut text = chain(source.as_ref());
            if !tail.is_empty() {
                text.push_str("\n\nThe log ends with:\n");
                text.push_str(tail);
            }
            text.push_str(&format!("\n\nThe whole log: {}", log.display()));
            let told = Diagnostic::error(summary, text);
            match attribute {
                Some(attribute) => told.at(attribute_path(attribute)),
                None => told,
            }
        }
        BackendError::Foreign { .. } => {
            let text = format!(
                "{}\nRun this where the object was made, with the same `data_dir`. If it is lost, set `qemu = {{ foreign_store = \"forget\" }}` in the provider's configuration: the object then drops out of the state and is made anew.",
                sentence(&error.to_string())
            );
            Diagnostic::error("Kept in another store", text)
        }
        BackendError::Refused { attribute, problem } => {
            Diagnostic::error(summary, sentence(problem)).at(attribute_path(attribute))
        }
        _ => Diagnostic::error(summary, chain(error)),
    }
}

/// Problems that a backend names, as errors.
pub fn impossible(problems: Problems) -> Diagnostics {
    let mut diags = Diagnostics::new();
    for (attribute, problem) in problems {
        diags.error(attribute_path(&attribute), "Impossible image", problem);
    }
    diags
}

/// What is perhaps not meant, as warnings.
pub fn doubtful(doubts: Problems) -> Diagnostics {
    let mut diags = Diagnostics::new();
    for (attribute, doubt) in doubts {
        diags.push(Diagnostic::warning("Doubtful image", doubt).at(attribute_path(&attribute)));
    }
    diags
}

/// The path of an attribute whose parts are separated by dots; a number is a position in a list. What stands between `ports`
/// and `host` is a key, whatever it looks like.
pub fn attribute_path(dotted: &str) -> Path {
    let parts = |dotted: &str| {
        dotted.split('.').fold(Path::root(), |path, name| match name.parse() {
            Ok(index) => path.index(index),
            Err(_) => path.attr(name),
        })
    };
    let port =
        dotted.split_once(".ports.").and_then(|(section, rest)| Some((section, rest.strip_suffix(".host")?)));
    match port {
        Some((section, key)) => parts(section).attr("ports").key(key).attr("host"),
        None => parts(dotted),
    }
}

/// With a capital letter and a full stop, as diagnostics are written.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let mut sentence: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    sentence.push_str(chars.as_str());
    if !sentence.ends_with(['.', ':', '\n']) {
        sentence.push('.');
    }
    sentence
}

/// The state is of a version that knows more clouds.
pub fn unknown_backend(cloud: &str) -> Diagnostic {
    let text = format!(
        "The state names {cloud:?}, which this version of the provider does not know. Use the version that made it."
    );
    Diagnostic::error("Unknown backend", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_chain_is_told_once() {
        let disk = std::io::Error::other("no space left on device");
        let error = BackendError::failed("writing the image", disk);
        assert_eq!(chain(&error), "Writing the image failed.\nNo space left on device.");
        let disk = std::io::Error::from_raw_os_error(28);
        let error = BackendError::failed("writing the image", disk);
        let told = format!("Writing the image failed.\nNo space left on device (os error 28).\n{FREE}");
        assert_eq!(chain(&error), told);
    }

    #[test]
    fn a_failed_build_tells_the_log() {
        let error = BackendError::Build {
            source: "step 1 failed with exit code 7".into(),
            attribute: Some("aws.verify_boot".into()),
            log: "/data/logs/x.log".into(),
            tail: "a\nb".into(),
        };
        let told = backend("Image not built", &error);
        assert_eq!(told.path, Some(attribute_path("aws.verify_boot")));
        assert_eq!(
            told.detail,
            "Step 1 failed with exit code 7.\n\nThe log ends with:\na\nb\n\nThe whole log: /data/logs/x.log"
        );
    }
    #[test]
    fn an_attribute_is_found_by_its_parts() {
        for (dotted, expected) in [
            ("name_prefix", "name_prefix"),
            ("qemu.base.bootstrap.suite", "qemu.base.bootstrap.suite"),
            ("provision.0.upload.source", "provision[0].upload.source"),
            ("verify.12", "verify[12]"),
            ("qemu.ports.web.host", r#"qemu.ports["web"].host"#),
            ("qemu.ports.80.host", r#"qemu.ports["80"].host"#),
            ("qemu.ports.web.1.host", r#"qemu.ports["web.1"].host"#),
            ("qemu.ports.a.host.host", r#"qemu.ports["a.host"].host"#),
            ("qemu.ports.x.ports.y.host", r#"qemu.ports["x.ports.y"].host"#),
            ("qemu.ports", "qemu.ports"),
        ] {
            assert_eq!(attribute_path(dotted).to_string(), expected, "{dotted}");
        }
    }
}
