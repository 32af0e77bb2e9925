//! What the provider's configuration says about AWS, and what the words in it may be.

use serde::{Deserialize, Serialize};

/// How we come to AWS. What is not set follows the AWS tools' own chain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwsSettings {
    /// The region of objects that name none.
    pub region: Option<String>,
    /// A profile of the AWS configuration files.
    pub profile: Option<String>,
    /// Where EC2 is, for an emulator or a private endpoint.
    pub endpoint_url: Option<String>,
    /// A role to take on.
    pub assume_role: Option<AssumeRole>,
    /// Accounts that we may work in; any when there are none.
    pub allowed_account_ids: Vec<String>,
}

/// A role to take on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssumeRole {
    /// The role.
    pub role_arn: String,
    /// How the session is called in CloudTrail.
    pub session_name: Option<String>,
    /// How long its credentials last.
    #[serde(default)]
    pub duration: Option<std::time::Duration>,
    /// What the role's trust policy asks for.
    pub external_id: Option<String>,
}

/// The region of the cloud's examples, when neither configuration nor environment names one.
pub(super) const DEFAULT_REGION: &str = "us-west-2";

/// A region's name: `us-west-2`, `us-gov-east-1`.
///
/// # Errors
/// What is wrong with it.
pub fn region(name: &str) -> Result<(), String> {
    let parts: Vec<&str> = name.split('-').collect();
    let word = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
    let number = |part: &str| (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    match parts.split_last() {
        Some((last, words)) if words.len() >= 2 && words.iter().all(word) && number(last) => Ok(()),
        _ => Err(format!("{name:?} is no region: write one such as \"us-west-2\", not an availability zone")),
    }
}

/// An account's number.
///
/// # Errors
/// What is wrong with it.
pub(super) fn account_id(id: &str) -> Result<(), String> {
    if id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(());
    }
    Err(format!("{id:?} is no account id: 12 digits, in quotes to keep leading zeros"))
}

/// A role's ARN.
///
/// # Errors
/// What is wrong with it.
pub(super) fn role_arn(arn: &str) -> Result<(), String> {
    let mut parts = arn.splitn(6, ':');
    let mut part = || parts.next().unwrap_or_default();
    let (prefix, partition, service, _, account, role) = (part(), part(), part(), part(), part(), part());
    let sound = prefix == "arn" && partition.starts_with("aws") && service == "iam";
    if sound && account_id(account).is_ok() && role.starts_with("role/") && role.len() > "role/".len() {
        return Ok(());
    }
    Err(format!("{arn:?} is no role: write arn:aws:iam::ACCOUNT:role/NAME"))
}

/// Where an API is.
///
/// # Errors
/// What is wrong with it.
pub(super) fn endpoint_url(url: &str) -> Result<(), String> {
    let authority = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    match authority {
        Some(rest) if !rest.is_empty() && !rest.contains(char::is_whitespace) => Ok(()),
        _ => Err(format!("{url:?} is no URL that begins with https:// or http://")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: fn(&str) -> Result<(), String>, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(rule(text), Ok(()), "{text}");
        }
        for text in bad {
            assert!(rule(text).is_err(), "{text}");
        }
    }

    #[test]
    fn words_are_what_aws_takes() {
        let good = ["us-west-2", "eu-central-1", "us-gov-east-1", "ap-southeast-3", "us-iso-east-1"];
        check(region, &good, &["", "us-west", "us-west-2a", "US-WEST-2", "us west 2", "2", "-west-2"]);
        check(account_id, &["012345678901"], &["", "12345678901", "1234567890123", "12345678901x"]);
        let good = ["arn:aws:iam::123456789012:role/ci", "arn:aws-us-gov:iam::123456789012:role/path/ci"];
        let bad = [
            "ci",
            "arn:aws:iam::1:role/ci",
            "arn:aws:iam::123456789012:user/ci",
            "arn:aws:iam::123456789012:role/",
        ];
        check(role_arn, &good, &bad);
        check(
            endpoint_url,
            &["http://127.0.0.1:5000", "https://x.example"],
            &["", "127.0.0.1", "http://", "ftp://x"],
        );
    }
}
