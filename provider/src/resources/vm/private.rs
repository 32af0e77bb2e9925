//! What we keep beside a machine's state, out of the user's sight.

use serde::{Deserialize, Serialize};

/// The private data of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Private {
    /// Imported from a cloud, which does not tell what the user asked for: what the state lacks is recorded by the
    /// next apply, and no reason to make the machine anew.
    pub(super) imported: bool,
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
