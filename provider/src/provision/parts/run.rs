//! Packer runs the parts: which one it is at, and how that one failed.

use super::Part;
use crate::domain::Origin;
use crate::packer::{Job, Packer, PackerError, Recipe, Report, Said};
use crate::provision::StepFailure;

/// Why the parts did not come to their end.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A step failed.
    #[error(transparent)]
    Step(#[from] StepFailure),
    /// A check failed.
    #[error("the check {name:?} failed with exit code {code}; its last lines were:\n{tail}")]
    Check {
        /// As the user named it.
        name: String,
        /// Its exit code.
        code: i32,
        /// The last lines of output.
        tail: String,
    },
    /// Packer failed before the first part.
    #[error("could not build the image with Packer")]
    Start(#[source] PackerError),
    /// Packer failed otherwise.
    #[error("could not build the image with Packer")]
    Packer(#[source] PackerError),
}

/// Builds, and tells the log which step begins. Returns the number of the form that Packer took, too.
///
/// # Errors
/// What fails, as its step's failure when it is one.
pub async fn run(
    packer: &Packer,
    job: &Job<'_>,
    recipe: &Recipe<'_>,
    parts: &[Part],
) -> Result<(usize, Report), Failure> {
    let mut at: Option<&Part> = None;
    let built = packer.build_accepted(job, recipe, |said, text| {
        if let Some(part) = parts.iter().find(|part| said == Said::Say && begins(part, text)) {
            if at.is_none_or(|at| at.name != part.name) {
                job.log.step(&match part.of {
                    Origin::Check => format!("Checking: {}", part.name),
                    _ => format!("Provisioning step {}", part.name),
                });
            }
            at = Some(part);
        }
    });
    let built = built.await;
    built.map_err(|error| failure(error, at))
}

/// Whether Packer says that it begins with this part.
fn begins(part: &Part, text: &str) -> bool {
    ["Provisioning with shell script: ", "Uploading "].iter().any(|words| {
        text.split_once(words).is_some_and(|(_, rest)| rest.split_whitespace().next() == Some(&part.source))
    })
}

/// A failure of a step as one's own builder tells it.
fn failure(error: PackerError, at: Option<&Part>) -> Failure {
    let PackerError::Build { reason, tail, late } = error else { return Failure::Packer(error) };
    match (at, exit_code(&reason)) {
        (Some(Part { name, of: Origin::Check, .. }), Some(code)) => {
            Failure::Check { name: name.clone(), code, tail }
        }
        (Some(part), Some(code)) => StepFailure::Code { name: part.name.clone(), code, tail }.into(),
        (Some(Part { name, timeout: Some(limit), .. }), None) if late => {
            StepFailure::Timeout { name: name.clone(), limit: *limit, tail }.into()
        }
        (None, _) => Failure::Start(PackerError::Build { reason, tail, late }),
        _ => Failure::Packer(PackerError::Build { reason, tail, late }),
    }
}

/// `Script exited with non-zero exit status: 3. Allowed exit codes are: [0]`
fn exit_code(reason: &str) -> Option<i32> {
    let (_, rest) = reason.split_once("non-zero exit status: ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_packer_says_of_a_failing_script() {
        for (reason, code) in [
            ("Script exited with non-zero exit status: 3.Allowed exit codes are: [0]", Some(3)),
            ("Script exited with non-zero exit status: 42. Allowed exit codes are: [0]", Some(42)),
            ("Timeout waiting for SSH.", None),
            ("non-zero exit status: x", None),
        ] {
            assert_eq!(exit_code(reason), code, "{reason}");
        }
    }
}
