//! What Packer says that it made, and whether EC2 knows it.

use std::time::Duration;

use aws_sdk_ec2::types::{Image as Ami, ImageState};
use tokio_util::sync::CancellationToken;

use super::{AwsImageSpec, BuildError};
use crate::backends::aws::region::Region;
use crate::packer::{PackerError, Report};

/// How often an image that was just made is looked for.
const LOOKS: u32 = 15;
/// The time between.
const PAUSE: Duration = Duration::from_secs(2);

/// The AMI's id: the artifact is `region:ami`, and there is one.
pub(super) fn id(report: &Report, region: &str) -> Result<String, BuildError> {
    let told = report.single_artifact()?.id.as_str();
    of_text(told, region)
}

fn of_text(told: &str, region: &str) -> Result<String, BuildError> {
    let wrong = |problem: &str| BuildError::Artifact { told: told.to_owned(), problem: problem.to_owned() };
    let all: Vec<&str> = told.split(',').collect();
    match all.as_slice() {
        [] | [""] => Err(PackerError::NoArtifact.into()),
        [one] => match one.split_once(':') {
            Some((there, id)) if there == region && id.starts_with("ami-") => Ok(id.to_owned()),
            Some((_, id)) if id.starts_with("ami-") => Err(wrong(&format!("it was to be made in {region}"))),
            _ => Err(wrong("that is no region with an AMI's id")),
        },
        _ => Err(wrong("one image was asked for")),
    }
}

/// The AMI as EC2 has it.
pub(super) async fn accept(
    region: &Region,
    spec: &AwsImageSpec,
    id: &str,
    cancel: &CancellationToken,
) -> Result<Ami, BuildError> {
    let wrong = |problem: String| BuildError::Artifact { told: id.to_owned(), problem };
    for look in 1.. {
        match region.fresh_image(id).await? {
            Some(ami) if ami.state() == Some(&ImageState::Available) => {
                let arch = ami.architecture().map(|it| it.as_str().to_owned()).unwrap_or_default();
                if arch == spec.arch.name() {
                    return Ok(ami);
                }
                return Err(wrong(format!("it is for {arch}")));
            }
            Some(ami) if look >= LOOKS => {
                let state = ami.state().map_or("in no state", ImageState::as_str).to_owned();
                return Err(wrong(format!("it is {state}")));
            }
            None if look >= LOOKS => {
                return Err(wrong(format!("EC2 knows no such image in {}", region.name)));
            }
            _ => {}
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = cancel.cancelled() => return Err(BuildError::Cancelled),
        }
    }
    Err(BuildError::Cancelled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_image_of_the_region() {
        assert_eq!(of_text("us-west-2:ami-1", "us-west-2").unwrap(), "ami-1");
        for (told, words) in [
            ("", "without an artifact"),
            ("us-west-2:ami-1,us-west-2:ami-2", "one image was asked for"),
            ("eu-central-1:ami-1", "was to be made in us-west-2"),
            ("ami-1", "no region with an AMI's id"),
            ("us-west-2:snap-1", "no region with an AMI's id"),
        ] {
            let error = crate::domain::causes(&of_text(told, "us-west-2").unwrap_err());
            assert!(error.contains(words), "{told}: {error}");
        }
    }
}
