//! What is written down of a launch.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::Begun;

/// The launch of a machine in a cloud, as somebody else needs to know it to remove what it made. Has no secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// Its id, which all that it makes carries.
    pub launch: Uuid,
    /// The cloud, as it stands in state.
    pub cloud: String,
    /// The region in which it works.
    pub region: String,
    /// The machine's name.
    pub name: String,
    /// How the cloud is reached, in the backend's words.
    pub access: Value,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it will have ended, whatever becomes of it.
    pub deadline: DateTime<Utc>,
}

impl Begun for Launch {
    fn id(&self) -> Uuid {
        self.launch
    }

    fn started_at(&self) -> DateTime<Utc> {
        self.started_at
    }
}
