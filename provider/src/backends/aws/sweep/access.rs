//! How a build came to AWS, as the journal has it for whoever comes after. Credentials themselves come from the
//! environment.

use std::collections::BTreeMap;
use std::ffi::OsString;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::backends::aws::{Aws, AwsError, AwsSettings};
use crate::journal::Journal;
use crate::process::TRUSTED;

/// The provider's configuration, and the account that it led to: with the same configuration and other credentials
/// nothing would be found, and the entry would be taken for done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// The provider's configuration.
    pub settings: AwsSettings,
    /// The account.
    pub account: String,
}

impl Aws {
    /// Where builds are written down.
    pub fn journal(&self) -> Journal {
        Journal::open(&self.data_dir)
    }

    /// How we come to AWS, for the journal.
    ///
    /// # Errors
    /// When AWS does not tell whose the credentials are.
    pub async fn access(&self) -> Result<Value, AwsError> {
        let access = Access { settings: self.settings.clone(), account: self.account().await?.to_owned() };
        let incomplete = AwsError::Incomplete { operation: "GetCallerIdentity", what: "account" };
        serde_json::to_value(access).map_err(|_| incomplete)
    }
}

/// The variables of our environment that lead to AWS: for `sweep`, when it has to end what we began. Packer gets its
/// own.
pub fn environment() -> BTreeMap<OsString, OsString> {
    std::env::vars_os().filter(|(name, _)| leads_to_aws(&name.to_string_lossy())).collect()
}

fn leads_to_aws(name: &str) -> bool {
    name.starts_with("AWS_") || TRUSTED.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_to_aws() {
        for name in ["AWS_PROFILE", "AWS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
            assert!(leads_to_aws(name), "{name}");
        }
        assert!(!leads_to_aws("HOME") && !leads_to_aws("SSL_CERT_FILES"));
    }
}
