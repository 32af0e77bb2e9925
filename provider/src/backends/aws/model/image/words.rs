//! What words in it may be.

use std::collections::BTreeSet;

use crate::backends::aws::settings;
use crate::domain::rules::one_of;

pub(super) fn interface(value: &str) -> Result<(), String> {
    one_of(value, &["public", "private", "session_manager"])
}

pub(super) fn regions(values: &BTreeSet<String>) -> Result<(), String> {
    values.iter().try_for_each(|value| settings::region(value))
}

pub(super) fn accounts(values: &BTreeSet<String>) -> Result<(), String> {
    values.iter().try_for_each(|value| settings::account_id(value))
}

#[expect(clippy::ptr_arg, reason = "validators take what the attribute holds")]
pub(super) fn owners(values: &Vec<String>) -> Result<(), String> {
    if values.is_empty() {
        return Err("needs at least one owner: anybody can give an AMI any name".into());
    }
    values.iter().try_for_each(|owner| match owner.as_str() {
        "amazon" | "aws-marketplace" | "self" => Ok(()),
        other => settings::account_id(other),
    })
}

/// By the forms of ARNs that EC2 takes as launch permissions.
pub(super) fn organizations(values: &BTreeSet<String>) -> Result<(), String> {
    values.iter().try_for_each(|arn| {
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        match parts.as_slice() {
            ["arn", partition, "organizations", "", account, rest]
                if partition.starts_with("aws")
                    && settings::account_id(account).is_ok()
                    && (rest.starts_with("organization/o-") || rest.starts_with("ou/o-")) =>
            {
                Ok(())
            }
            _ => Err(format!(
                "{arn:?} is no organisation: write arn:aws:organizations::ACCOUNT:organization/o-… or arn:aws:organizations::ACCOUNT:ou/o-…/ou-…"
            )),
        }
    })
}
