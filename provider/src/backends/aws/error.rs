//! What AWS refuses, and what to do about it. The SDK's errors end here.

use std::error::Error;

use aws_config::imds::client::error::ImdsError;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::operation::RequestId;

use super::reach::Unanswered;
use crate::domain::BackendError;

/// Why AWS did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum AwsError {
    /// The caller may not do this.
    #[error(
        "AWS does not allow {action}: {message}\nAllow {action} in the policy of the identity in use; the AWS guide of this provider has a policy with all that is needed (request id {request_id})"
    )]
    Denied {
        /// The permission that is missing, as a policy spells it.
        action: String,
        /// What AWS said.
        message: String,
        /// For AWS's support and CloudTrail.
        request_id: String,
    },
    /// Nobody said who we are.
    #[error(
        "there are no AWS credentials\nSet AWS_PROFILE or `aws.profile` to a profile of ~/.aws/config or ~/.aws/credentials, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run where a role is given (instance role, web identity). `aws sts get-caller-identity` shows what the AWS tools find here"
    )]
    NoCredentials {
        /// What was tried.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// There are credentials, and they could not be taken up.
    #[error(
        "the AWS credentials cannot be used\nLog in again (`aws sso login` for a profile with SSO), or correct the profile or role"
    )]
    UnusableCredentials {
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// AWS does not take the credentials.
    #[error(
        "AWS does not accept the credentials: {message} ({code}, request id {request_id})\nThey have expired, were revoked, or are of a partition or account where this region is not enabled. Log in again, and see that the region is right"
    )]
    Rejected {
        /// AWS's word for it.
        code: String,
        /// What AWS said.
        message: String,
        /// For AWS's support and CloudTrail.
        request_id: String,
    },
    /// The credentials are of another account than configured.
    #[error(
        "the credentials are of account {account}, and `aws.allowed_account_ids` has {allowed}\nUse another profile or role, or add the account"
    )]
    OtherAccount {
        /// Whose they are.
        account: String,
        /// What is allowed.
        allowed: String,
    },
    /// AWS asks to slow down, after all our attempts.
    #[error(
        "AWS limits the rate of {operation} and kept doing so over {attempts} attempts (request id {request_id})\nRun with a smaller -parallelism, or try again later"
    )]
    Throttled {
        /// The API's operation.
        operation: &'static str,
        /// How often it was tried.
        attempts: u32,
        /// For AWS's support and CloudTrail.
        request_id: String,
    },
    /// No answer arrived.
    #[error(
        "no answer to {operation} from {place}\nSee that the region exists, that `aws.endpoint_url` (or AWS_ENDPOINT_URL) is right if it is set, and that this machine reaches it"
    )]
    Unreachable {
        /// The API's operation.
        operation: &'static str,
        /// Where it was asked for.
        place: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// Anything else that AWS refuses.
    #[error("{operation}: {message} ({code}, request id {request_id})")]
    Refused {
        /// The API's operation.
        operation: &'static str,
        /// AWS's word for it.
        code: String,
        /// What AWS said.
        message: String,
        /// For AWS's support and CloudTrail.
        request_id: String,
    },
    /// An answer without what every such answer has.
    #[error("{operation}: the answer has no {what}")]
    Incomplete {
        /// The API's operation.
        operation: &'static str,
        /// What is missing.
        what: &'static str,
    },
}

/// How often a request is tried. Throttling of a busy account lasts.
pub(super) const ATTEMPTS: u32 = 25;

/// Codes by which AWS asks to slow down.
const THROTTLED: [&str; 5] =
    ["RequestLimitExceeded", "Throttling", "ThrottlingException", "RequestThrottled", "SlowDown"];

/// Codes for credentials that AWS does not take.
const REJECTED: [&str; 7] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
    "InvalidAccessKeyId",
];

/// Codes for what the caller may not do.
const DENIED: [&str; 3] = ["UnauthorizedOperation", "AccessDenied", "AccessDeniedException"];

impl AwsError {
    /// An error of the SDK; `operation` is the API's name of what was asked, with its service for a policy when
    /// that is not EC2: `sts:GetCallerIdentity`.
    pub(super) fn of<E>(operation: &'static str, error: SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let request_id = error.request_id().unwrap_or("unknown").to_owned();
        let Some(code) = error.code().map(str::to_owned) else { return Self::without_code(operation, error) };
        let message = error.message().unwrap_or("no reason given").to_owned();
        let is = |codes: &[&str]| codes.contains(&code.as_str());
        if is(&DENIED) {
            Self::Denied { action: action(operation, &message), message: readable(&message), request_id }
        } else if is(&THROTTLED) {
            Self::Throttled { operation, attempts: ATTEMPTS, request_id }
        } else if is(&REJECTED) || is_about_credentials(&code, &message) {
            Self::Rejected { code, message, request_id }
        } else {
            Self::Refused { operation, code, message, request_id }
        }
    }

    /// Why there are no credentials.
    pub(super) fn of_credentials(error: CredentialsError) -> Self {
        let missing = are_missing(&error);
        let source = Box::new(error);
        if missing { Self::NoCredentials { source } } else { Self::UnusableCredentials { source } }
    }

    fn without_code<E>(operation: &'static str, error: SdkError<E>) -> Self
    where
        E: Error + Send + Sync + 'static,
    {
        let source: Box<dyn Error + Send + Sync> = match error.into_source() {
            Ok(source) => source,
            Err(error) => Box::new(error),
        };
        match cause::<CredentialsError>(source.as_ref()) {
            Some(error) if are_missing(error) => Self::NoCredentials { source },
            Some(_) => Self::UnusableCredentials { source },
            None => match cause::<Unanswered>(source.as_ref()) {
                Some(it) => {
                    Self::Unreachable { operation, place: it.to_string(), source: it.reason.clone().into() }
                }
                None => Self::Unreachable { operation, place: "AWS".to_owned(), source },
            },
        }
    }

    /// AWS's code, when it gave one that is not about credentials, permissions or rates.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Whether the object that was named is not there (any more).
    pub(super) fn is_gone(&self) -> bool {
        self.code().is_some_and(|code| {
            code.ends_with(".NotFound")
                || code == "InvalidAMIID.Unavailable"
                || code == "InvalidInstanceID.Malformed"
        })
    }

    /// Whether it is unknown if the request had its effect.
    pub(super) fn is_ambiguous(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Throttled { .. })
            || self
                .code()
                .is_some_and(|code| ["InternalError", "ServiceUnavailable", "Unavailable"].contains(&code))
    }

    /// As resources see it; `doing` says what was going on.
    pub(super) fn into_backend(self, doing: impl Into<String>) -> BackendError {
        BackendError::failed(doing, self)
    }
}

/// Whether AWS means us: by these codes it also refuses an image that is another account's, or not subscribed to.
fn is_about_credentials(code: &str, message: &str) -> bool {
    match code {
        "AuthFailure" => message.contains("credentials"),
        "OptInRequired" => message.contains("not subscribed to this service"),
        _ => false,
    }
}

/// Whether nobody said who we are. An instance's metadata are asked last, when nothing else is there: that they refuse, as
/// where they are turned off or belong to another cloud, says no more than that.
fn are_missing(error: &CredentialsError) -> bool {
    matches!(error, CredentialsError::CredentialsNotLoaded(_)) || cause::<ImdsError>(error).is_some()
}

/// The first error of this type among an error's causes, itself among them.
fn cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The permission that a refusal is about: AWS often names it, and it may be another than the operation's.
fn action(operation: &str, message: &str) -> String {
    let named = message.split_once("not authorized to perform: ").and_then(|(_, rest)| {
        let word = rest.split_whitespace().next()?.trim_end_matches(['.', ',']);
        word.contains(':').then(|| word.to_owned())
    });
    named.unwrap_or_else(|| {
        if operation.contains(':') { operation.to_owned() } else { format!("ec2:{operation}") }
    })
}

/// Without the long encoded part, which only AWS can read.
fn readable(message: &str) -> String {
    message.split("Encoded authorization failure message").next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use aws_config::imds;
    use aws_config::imds::credentials::ImdsCredentialsProvider;
    use aws_credential_types::provider::ProvideCredentials;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn metadata_that_refuse_are_no_credentials() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let taken = stream.read(&mut [0; 1024]).unwrap_or_default();
                assert!(taken > 0, "nothing was asked");
                let _ = stream
                    .write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
        });
        let client = imds::Client::builder().endpoint(format!("http://{address}")).unwrap().build();
        let error = ImdsCredentialsProvider::builder()
            .imds_client(client)
            .build()
            .provide_credentials()
            .await
            .unwrap_err();
        assert!(matches!(AwsError::of_credentials(error), AwsError::NoCredentials { .. }));
    }

    #[test]
    fn the_missing_permission_is_named() {
        let told = "You are not authorized to perform this operation. User: arn:aws:iam::1:user/ci is not authorized to perform: iam:PassRole on resource: arn:aws:iam::1:role/x. Encoded authorization failure message: aaaa";
        assert_eq!(action("RunInstances", told), "iam:PassRole");
        assert_eq!(
            action("RunInstances", "You are not authorized to perform this operation."),
            "ec2:RunInstances"
        );
        assert_eq!(action("sts:GetCallerIdentity", "no"), "sts:GetCallerIdentity");
        assert!(
            readable(told).ends_with("role/x.") && !readable(told).contains("aaaa"),
            "{}",
            readable(told)
        );
    }

    #[test]
    fn what_is_refused_is_not_always_the_credentials() {
        for (code, message, credentials) in [
            ("AuthFailure", "AWS was not able to validate the provided access credentials", true),
            ("AuthFailure", "Not authorized for images: [ami-1]", false),
            (
                "OptInRequired",
                "You are not subscribed to this service. Please go to http://aws.amazon.com to subscribe.",
                true,
            ),
            (
                "OptInRequired",
                "In order to use this AWS Marketplace product you need to accept terms and subscribe.",
                false,
            ),
            ("InvalidAMIID.NotFound", "credentials", false),
        ] {
            assert_eq!(is_about_credentials(code, message), credentials, "{message}");
        }
    }

    #[test]
    fn what_is_gone_is_known_by_its_code() {
        let refused = |code: &str| AwsError::Refused {
            operation: "DescribeInstances",
            code: code.into(),
            message: String::new(),
            request_id: String::new(),
        };
        for code in ["InvalidAMIID.NotFound", "InvalidAMIID.Unavailable", "InvalidInstanceID.NotFound"] {
            assert!(refused(code).is_gone(), "{code}");
        }
        for code in ["InvalidParameterValue", "IncorrectInstanceState"] {
            assert!(!refused(code).is_gone(), "{code}");
        }
        assert!(refused("InternalError").is_ambiguous() && !refused("InvalidParameterValue").is_ambiguous());
    }
}
