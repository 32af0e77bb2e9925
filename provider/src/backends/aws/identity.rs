//! Who we are in AWS, and whether that is enough: for people and for `check` blocks.

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};

use super::{Aws, AwsError};
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

    /// Asks AWS who we are, and tries by dry runs what every use needs. Changes nothing.
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
            Err(error) => return vec![permission("AWS account", Some(causes(&error)))],
        };
        let ec2 = &region.ec2;
        let images = ec2.describe_images().owners("self").dry_run(true).send().await;
        let instances = ec2.describe_instances().dry_run(true).send().await;
        let groups = ec2.describe_security_groups().dry_run(true).send().await;
        let subnets = ec2.describe_subnets().dry_run(true).send().await;
        let pairs = ec2.describe_key_pairs().dry_run(true).send().await;
        vec![
            permission("ec2:DescribeImages", problem("DescribeImages", images)),
            permission("ec2:DescribeInstances", problem("DescribeInstances", instances)),
            permission("ec2:DescribeSecurityGroups", problem("DescribeSecurityGroups", groups)),
            permission("ec2:DescribeSubnets", problem("DescribeSubnets", subnets)),
            permission("ec2:DescribeKeyPairs", problem("DescribeKeyPairs", pairs)),
        ]
    }
}

fn permission(name: &str, problem: Option<String>) -> Prerequisite {
    Prerequisite {
        name: name.to_owned(),
        version: None,
        state: if problem.is_some() { State::Missing } else { State::Ok },
        hint: problem.unwrap_or_default(),
        required: true,
    }
}

/// What stands in the way; a dry run that would have worked ends in an error that says so.
fn problem<T, E>(operation: &'static str, tried: Result<T, SdkError<E>>) -> Option<String>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let error = AwsError::of(operation, tried.err()?);
    (error.code() != Some("DryRunOperation")).then(|| causes(&error))
}
