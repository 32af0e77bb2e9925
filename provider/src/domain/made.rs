//! What a user's own template made: things of any builder, and who looks after them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{Artifact, BackendError};

/// One thing that Packer made, as its machine-readable output names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Which kind of builder, or of post-processor, made it.
    pub builder_id: String,
    /// Its id, in the builder's own form.
    pub id: String,
    /// Its files on this computer.
    pub files: Vec<PathBuf>,
    /// Whether somebody here reads and deletes it.
    pub managed: bool,
}

/// What there is of a thing that was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// In which region of its cloud, where it is in one.
    pub artifact: Option<(String, Artifact)>,
    /// How much space it takes up.
    pub size_bytes: u64,
}

/// What a line of a builder's says of things that it makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// It has begun to make this.
    Begins(Made),
    /// It removes what it had begun.
    Removes,
    /// It works in this machine.
    Works(String),
}

/// Looks after what builders of certain kinds make.
#[async_trait]
pub trait Keeper: std::fmt::Debug + Send + Sync {
    /// Whether this is its to look after.
    fn keeps(&self, made: &Made) -> bool;

    /// The things that a thing consists of, each of which can be gone while the others are not.
    fn parts(&self, made: &Made) -> Vec<Made> {
        vec![made.clone()]
    }

    /// The account in whose name it looks. A thing of another account is not seen, and that does not say that it is gone.
    /// `None` where what is not seen is gone.
    async fn account(&self) -> Result<Option<String>, BackendError> {
        Ok(None)
    }

    /// What a line that a builder printed says, or a script that ran in it.
    fn hear(&self, _line: &str) -> Option<Heard> {
        None
    }

    /// The thing that was heard of, when it is ours and has come up since then: words alone prove nothing.
    async fn trace(&self, _heard: &Made, _since: DateTime<Utc>) -> Result<Option<Made>, BackendError> {
        Ok(None)
    }

    /// Whether something that a thing left is seen, which proves that it was here, and that it is gone when it is not seen
    /// itself.
    async fn was_here(&self, _made: &Made) -> Result<bool, BackendError> {
        Ok(false)
    }

    /// Whether all of these machines, in which builders worked, are seen, running or ended, and whoever made this worked in one:
    /// then it was made in our account.
    async fn worked_here(&self, _made: &Made, _machines: &BTreeSet<String>) -> Result<bool, BackendError> {
        Ok(false)
    }

    /// What there is of it in this moment; `None` when it is not seen.
    async fn look(&self, made: &Made) -> Result<Option<Seen>, BackendError>;

    /// Deletes it. What is gone already is deleted. Returns what stays because others use it.
    async fn delete(&self, made: &Made, cancel: &CancellationToken) -> Result<Vec<String>, BackendError>;
}
