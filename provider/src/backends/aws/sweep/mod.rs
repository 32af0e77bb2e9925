//! What builds leave on EC2 when they are killed: found by their tags, removed, or finished. Whatever a build makes
//! carries its id ([`tags::BUILD`](super::tags::BUILD)) and when it will have ended
//! ([`tags::DEADLINE`](super::tags::DEADLINE)).
//!
//! So it is with launches of machines ([`tags::VM`](super::tags::VM)): see [`launches`].
//!
//! Two ways lead here. The journal knows the builds of this computer. Where it is lost, only what is past its deadline
//! is touched: a build may be going on elsewhere.

mod access;
mod claim;
mod complete;
mod each;
mod launches;
mod look;
mod overdue;
mod recover;
mod remove;

use std::fmt;

use tokio::time::Instant;

pub use access::{Access, environment};
pub(in crate::backends::aws) use complete::complete;
pub(in crate::backends::aws) use overdue::over_by;

use super::AwsError;
use super::vm::LAUNCH;
use crate::journal::JournalError;

/// Kinds of things that a build makes, in the order in which they are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An order for an instance.
    SpotRequest,
    /// An instance.
    Instance,
    /// What a spot instance was ordered from. It goes after that, which may be found by it alone.
    LaunchTemplate,
    /// An image that is not complete.
    Image,
    /// A snapshot of no complete image.
    Snapshot,
    /// A volume.
    Volume,
    /// A key pair.
    KeyPair,
    /// A security group.
    SecurityGroup,
}

impl Kind {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SpotRequest => "spot request",
            Self::LaunchTemplate => "launch template",
            Self::Instance => "instance",
            Self::Image => "image",
            Self::Snapshot => "snapshot",
            Self::Volume => "volume",
            Self::KeyPair => "key pair",
            Self::SecurityGroup => "security group",
        }
    }
}

/// One thing that a build left.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remain {
    /// What it is.
    pub kind: Kind,
    /// Its id.
    pub id: String,
    /// Where it is.
    pub region: String,
    /// Whose it is: a build's id, or that of a launch as it stands in state.
    pub build: String,
}

impl fmt::Display for Remain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} in {} of {}", self.kind.name(), self.id, self.region, whose(&self.build))
    }
}

/// A build or a launch, as people read it.
pub fn whose(id: &str) -> String {
    match id.strip_prefix(LAUNCH) {
        Some(launch) => format!("launch {launch}"),
        None => format!("build {id}"),
    }
}

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Finish or remove it.
    Really,
    /// Finish or remove it, and leave to whoever looks next what is not gone by then.
    Until(Instant),
    /// Only tell.
    DryRun,
}

/// What became of what a build left.
#[derive(Debug)]
pub enum Swept {
    /// It is removed, or would be.
    Removed(Remain),
    /// The image had passed all checks. It is complete, or would be, and a look-up finds it.
    Completed(Remain),
    /// A claim on the image that no state knows is taken off, or would be. The image stays for who asks for it.
    Unclaimed(Remain),
    /// The build, or something of it, cannot be settled now. Its entry stays in the journal.
    Left {
        /// The build.
        build: String,
        /// Where it worked.
        region: String,
        /// Why.
        why: SweepError,
    },
}

/// Why something of a build stays.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// AWS refuses.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// The journal cannot be kept.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The operation was cancelled.
    #[error("cleaning up was cancelled\nRun `terraform-provider-sindri sweep` to end it")]
    Cancelled,
    /// AWS does not let go of it.
    #[error(
        "{what} cannot be removed: {why}\nEnd what uses it, then run `terraform-provider-sindri sweep`; it costs money until then"
    )]
    Stays {
        /// What stays.
        what: String,
        /// AWS's last word.
        why: String,
    },
    /// There is no time to wait until it is gone.
    #[error(
        "{what} is not gone yet: {why}\nThe next build looks again; `terraform-provider-sindri sweep` waits for it. It costs money until then"
    )]
    Late {
        /// What is left.
        what: String,
        /// AWS's last word.
        why: String,
    },
    /// Made with other credentials.
    #[error(
        "{} was made in account {there}, and the credentials here are of {here}\nRun `terraform-provider-sindri sweep` with credentials of {there}",
        whose(build)
    )]
    OtherAccount {
        /// The build.
        build: String,
        /// Where it worked.
        there: String,
        /// Whose credentials we have.
        here: String,
    },
    /// An entry of another version.
    #[error(
        "the journal does not say how to reach the account of {}\nRun `sweep` of the version that made it, or look in {region} for what has that id in its tags, then delete {path}",
        whose(build)
    )]
    UnknownAccess {
        /// The build.
        build: String,
        /// Where it worked.
        region: String,
        /// The entry.
        path: String,
    },
}
