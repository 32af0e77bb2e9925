//! What can go wrong with a machine on AWS.

use std::io;
use std::path::PathBuf;

use crate::backends::aws::AwsError;
use crate::backends::aws::waiting::WaitError;
use crate::domain::BackendError;
use crate::journal::JournalError;
use crate::ssh::SshError;

/// Why a machine is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// AWS refused something.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// AWS refused what one attribute asks for.
    #[error("{problem}")]
    Refused {
        /// The attribute.
        attribute: &'static str,
        /// What is wrong and what to do.
        problem: String,
    },
    /// It is not there.
    #[error("there is no instance {id} in {region}")]
    NotFound {
        /// Its id.
        id: String,
        /// Where it was looked for.
        region: String,
    },
    /// AWS ended or stopped it while we waited for its start.
    #[error("AWS does not keep instance {id} running: {reason}")]
    Ended {
        /// Its id.
        id: String,
        /// AWS's reason.
        reason: String,
    },
    /// Nobody answered in time.
    #[error(
        "the machine did not answer over SSH at {address}; see that its security groups and routes let this computer in{console}"
    )]
    NotUp {
        /// Where it was tried.
        address: String,
        /// The end of its console, with an introduction; empty when there is none.
        console: String,
    },
    /// cloud-init failed.
    #[error("cloud-init ended with exit code {code}:\n{output}")]
    CloudInit {
        /// The code.
        code: i32,
        /// What it printed.
        output: String,
    },
    /// A key or a login.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// The journal cannot be kept.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A file of ours.
    #[error("could not write {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The user asked to stop, or the time is over.
    #[error("cancelled")]
    Cancelled,
}

impl From<WaitError> for VmError {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Aws(error) => Self::Aws(error),
            WaitError::Cancelled => Self::Cancelled,
        }
    }
}

impl VmError {
    /// As the resource sees it; `doing` says what was going on.
    pub(in crate::backends::aws) fn into_backend(self, doing: &str) -> BackendError {
        match self {
            Self::NotFound { id, .. } => BackendError::NotFound { kind: "machine", id },
            Self::Refused { attribute, problem } => {
                BackendError::Refused { attribute: attribute.into(), problem }
            }
            Self::Cancelled => BackendError::Cancelled { operation: doing.to_owned() },
            Self::Aws(error) => error.into_backend(doing),
            other => BackendError::failed(doing, other),
        }
    }

    /// What AWS says of a launch, on the attribute that it is about.
    pub(in crate::backends::aws) fn launching(error: AwsError, image_id: &str, region: &str) -> Self {
        let AwsError::Refused { code, message, request_id, .. } = &error else { return Self::Aws(error) };
        let Some(attribute) = attribute(code, message) else { return Self::Aws(error) };
        let hint = match attribute {
            "image_id" if code == "OptInRequired" => {
                " Subscribe to the product in AWS's Marketplace, once for the account, or use another image."
                    .to_owned()
            }
            "image_id" if code == "AuthFailure" => {
                " Ask the image's owner to share it with this account, or use another image.".to_owned()
            }
            "image_id" if code == "InvalidAMIID.Unavailable" => {
                format!(
                    " Image {image_id} is not ready yet, or failed: wait until EC2 shows it as available, and apply again."
                )
            }
            "image_id" => format!(
                " Image {image_id} is gone, or of another region than {region}: an AMI lives in one region, and a copy in another one has an id of its own."
            ),
            "aws.instance_type" if code == "InsufficientInstanceCapacity" => {
                " Take another size, or a subnet of another availability zone, or try later.".to_owned()
            }
            "aws.instance_type" => format!(" See `aws ec2 describe-instance-types --region {region}`."),
            "aws.subnet_id" => " Set `aws.subnet_id`.".to_owned(),
            _ => String::new(),
        };
        let problem = format!("{} ({code}, request id {request_id}).{hint}", message.trim_end_matches('.'));
        Self::Refused { attribute, problem }
    }
}

/// The attribute that a refused launch is about.
fn attribute(code: &str, message: &str) -> Option<&'static str> {
    let about = |word: &str| message.to_ascii_lowercase().contains(word);
    Some(match code {
        _ if code.starts_with("InvalidAMIID") => "image_id",
        // Of a product of AWS's Marketplace, or of an account that does not share it.
        "OptInRequired" => "image_id",
        "AuthFailure" if about("image") => "image_id",
        "InsufficientInstanceCapacity" => "aws.instance_type",
        _ if code.starts_with("InvalidInstanceType") => "aws.instance_type",
        _ if code.starts_with("InvalidSubnet") => "aws.subnet_id",
        "VPCIdNotSpecified" | "MissingInput" | "DefaultVpcDoesNotExist" => "aws.subnet_id",
        _ if code.starts_with("InvalidGroup") || code.starts_with("InvalidSecurityGroup") => {
            "aws.security_group_ids"
        }
        _ if code.starts_with("InvalidKMSKey") || code.starts_with("InvalidKmsKey") => {
            "aws.root_volume.kms_key_id"
        }
        "InvalidBlockDeviceMapping" => "aws.root_volume",
        "InvalidKey.Format" => "ssh.public_key",
        "Unsupported" | "InvalidParameterValue" if about("instance type") || about("instancetype") => {
            "aws.instance_type"
        }
        _ if about("iam instance profile") || about("iaminstanceprofile") => "aws.iam_instance_profile",
        "InvalidParameterValue" if about("volume") => "aws.root_volume",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_is_not_ready_is_not_gone() {
        let refused = |code: &str| {
            let (code, message, request_id) = (code.to_owned(), "x".to_owned(), "1".to_owned());
            let error = AwsError::Refused { operation: "RunInstances", code, message, request_id };
            VmError::launching(error, "ami-1", "us-west-2").to_string()
        };
        assert!(refused("InvalidAMIID.NotFound").contains("is gone, or of another region"));
        let told = refused("InvalidAMIID.Unavailable");
        assert!(told.contains("not ready") && !told.contains("gone"), "{told}");
    }

    #[test]
    fn what_aws_refuses_is_told_on_the_attribute() {
        for (code, message, expected) in [
            ("InvalidAMIID.NotFound", "The image id '[ami-1]' does not exist", Some("image_id")),
            ("OptInRequired", "you need to accept terms and subscribe", Some("image_id")),
            ("AuthFailure", "Not authorized for images: [ami-1]", Some("image_id")),
            ("InvalidInstanceType.NotFound", "x", Some("aws.instance_type")),
            ("InvalidParameterValue", "Invalid value 't3.tiny' for InstanceType.", Some("aws.instance_type")),
            ("InvalidSubnetID.NotFound", "x", Some("aws.subnet_id")),
            ("InvalidGroup.NotFound", "x", Some("aws.security_group_ids")),
            (
                "InvalidParameterValue",
                "Value (x) for parameter iamInstanceProfile.name is invalid",
                Some("aws.iam_instance_profile"),
            ),
            ("InsufficientInstanceCapacity", "x", Some("aws.instance_type")),
            ("InstanceLimitExceeded", "x", None),
        ] {
            assert_eq!(attribute(code, message), expected, "{code}");
        }
    }
}
