//! What is written down of a build.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::Begun;
use crate::domain::{CacheKey, Holder};

/// A build in a cloud, or a claim on an image there, as somebody else needs to know it to finish it or to remove what it made.
/// Has no secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its id, which all that it makes carries.
    pub build: Uuid,
    /// The cloud, as it stands in state.
    pub cloud: String,
    /// The region in which it works.
    pub region: String,
    /// The image's name.
    pub name: String,
    /// The key under which the image will be found.
    pub key: CacheKey,
    /// Whether somebody else may have the image. Where not, one that nobody waits for any more is removed.
    pub share: bool,
    /// Who would hold it. When somebody else finishes the build, nobody does.
    pub holder: Holder,
    /// What the finished image carries beside its key and its holder, in the cloud's words.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// How the cloud is reached, in the backend's words.
    pub access: Value,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it will have ended, whatever becomes of it.
    pub deadline: DateTime<Utc>,
    /// How far it got.
    pub phase: Phase,
}

impl Begun for Entry {
    fn id(&self) -> Uuid {
        self.build
    }

    fn started_at(&self) -> DateTime<Utc> {
        self.started_at
    }
}

/// How far a build got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Phase {
    /// Nothing is asked for yet.
    Begun,
    /// Anything may have been made.
    Building,
    /// The image is there; it may still turn out to be unfit.
    Built {
        /// Its id.
        image_id: String,
    },
    /// The image is fit, and lacks but its tags.
    Accepted {
        /// Its id.
        image_id: String,
    },
    /// The image is complete, and somebody holds it: what else there is of the build is still to be removed.
    Complete {
        /// Its id.
        image_id: String,
    },
    /// The image is complete, and its holder is not known to anybody yet: state has it when an apply ends.
    Claimed {
        /// Its id.
        image_id: String,
        /// Whether there is nothing else of the build that is still to be removed.
        alone: bool,
    },
    /// It failed, and its builder stays for a look until somebody sweeps.
    Kept,
}

impl Phase {
    /// The image, from when it is known.
    pub fn image_id(&self) -> Option<&str> {
        match self {
            Self::Begun | Self::Building | Self::Kept => None,
            Self::Built { image_id }
            | Self::Accepted { image_id }
            | Self::Complete { image_id }
            | Self::Claimed { image_id, .. } => Some(image_id),
        }
    }
}
