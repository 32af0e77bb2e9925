//! Who we are in AWS, and whether that is enough: for people and for `check` blocks.

use std::ffi::OsString;
use std::path::Path;

use super::{Aws, AwsError, permissions};
use crate::domain::causes;
use crate::domain::prerequisite::{Prerequisite, State};

/// Variables that say that somebody means to use AWS here. An instance's own role leaves no trace in the environment.
const VARIABLES: [&str; 9] = [
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_ENDPOINT_URL",
];

/// Whether the environment has something about AWS.
pub(super) fn is_in_environment() -> bool {
    is_set_up(|name| std::env::var_os(name))
}

impl Aws {
    /// Asks AWS who we are, and tries by dry runs what may be done with that. Changes nothing.
    pub async fn prerequisites(&self, region: Option<&str>) -> Vec<Prerequisite> {
        let caller = self.caller().await;
        let mut found = vec![Prerequisite {
            name: "AWS credentials".into(),
            version: None,
            state: match &caller {
                Ok(_) => State::Ok,
                Err(AwsError::NoCredentials { .. }) => State::Missing,
                Err(_) => State::Unusable,
            },
            hint: match &caller {
                Ok(caller) => caller.arn().unwrap_or_default().to_owned(),
                Err(error) => causes(error),
            },
            required: true,
        }];
        if caller.is_ok() {
            found.extend(self.permissions(region).await);
        }
        found
    }

    async fn permissions(&self, region: Option<&str>) -> Vec<Prerequisite> {
        let region = match self.region(region).await {
            Ok(region) => region,
            Err(error) => {
                return vec![permissions::permission("AWS account", Some(causes(&error)), true)];
            }
        };
        permissions::tried(&region.ec2).await
    }
}

fn is_set_up(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    VARIABLES.iter().any(|name| set(name).is_some())
        || set("HOME").is_some_and(|home| Path::new(&home).join(".aws").is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_that_aws_is_used_here() {
        let (with, without) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(with.path().join(".aws")).unwrap();
        for (name, value, expected) in [
            ("PATH", "/bin", false),
            ("AWS_PROFILE", "", false),
            ("AWS_PROFILE", "ci", true),
            ("AWS_REGION", "eu-central-1", true),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/secrets/token", true),
            ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/x", true),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials", true),
            ("HOME", with.path().to_str().unwrap(), true),
            ("HOME", without.path().to_str().unwrap(), false),
        ] {
            let told = is_set_up(|asked| (asked == name).then(|| value.into()));
            assert_eq!(told, expected, "{name}={value}");
        }
    }
}
