//! Who we are in AWS, and whether that is enough: for people and for `check` blocks.

use super::{Aws, AwsError, permissions};
use crate::domain::backend::causes;
use crate::domain::prerequisite::{Prerequisite, State};

/// Variables that say that somebody means to use AWS here.
const VARIABLES: [&str; 5] =
    ["AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ENDPOINT_URL"];

impl Aws {
    /// Whether the environment has something about AWS; for somebody who has given no configuration.
    pub fn is_in_environment() -> bool {
        let config = std::env::var_os("HOME").map(|home| std::path::Path::new(&home).join(".aws"));
        VARIABLES.iter().any(|name| std::env::var_os(name).is_some())
            || config.is_some_and(|dir| dir.is_dir())
    }

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
