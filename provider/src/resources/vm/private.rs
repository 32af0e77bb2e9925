//! What we keep beside a machine's state, out of the user's sight.

use serde::{Deserialize, Serialize};

/// The private data of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Private {
    /// Imported from a cloud, which does not tell what the user asked for: what the state lacks is recorded by the
    /// next apply, and no reason to make the machine anew.
    pub(super) imported: bool,
    /// The account that it is in. Not known of a machine that an earlier version made, until it is read.
    pub(super) account: Option<String>,
}

impl Private {
    /// What an earlier version wrote and we do not understand counts as nothing.
    pub(super) fn read(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    pub(super) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_earlier_versions_left_is_read() {
        let account = Some("123456789012".to_owned());
        for (bytes, expected) in [
            (&b""[..], Private::default()),
            (b"{\"imported\":true}", Private { imported: true, account: None }),
            (
                b"{\"imported\":false,\"account\":\"123456789012\",\"later\":1}",
                Private { imported: false, account },
            ),
        ] {
            assert_eq!(Private::read(bytes), expected);
            assert_eq!(Private::read(&expected.write()), expected);
        }
    }
}
