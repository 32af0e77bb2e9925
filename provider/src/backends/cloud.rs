//! A cloud as a whole: what resources and commands by hand ask of it. This computer is one, too.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::CLOUDS;
use crate::domain::prerequisite::Prerequisite;
use crate::domain::{BackendError, ImageBackend, VmBackend};
use crate::journal::Record;

/// Whether a word will do, and why not.
pub type Check = fn(&str) -> Result<(), String>;

/// What is known of a cloud before anything is set up.
#[derive(Debug)]
pub struct About {
    /// As `cloud` has it in state and configuration, and as the attributes are called.
    pub name: &'static str,
    /// As people call it.
    pub title: &'static str,
    /// Checks the name of a region; none where there are no regions.
    pub region: Option<Check>,
    /// What the import of an image is given.
    pub image_id: &'static str,
    /// What the import of a machine is given, with where to find it.
    pub machine_id: &'static str,
    /// What to do so that the environment says that it is used.
    pub set_up: &'static str,
    /// A configuration to start from.
    pub init: Option<&'static str>,
}

/// A cloud, as the provider's configuration sets it up.
#[async_trait]
pub trait Cloud: fmt::Debug + Send + Sync {
    /// What is known of it anyhow.
    fn about(&self) -> &'static About;

    /// The images of a region.
    fn images(self: Arc<Self>, region: Option<&str>) -> Arc<dyn ImageBackend>;

    /// The machines of a region.
    fn vms(self: Arc<Self>, region: Option<&str>) -> Arc<dyn VmBackend>;

    /// The region that the configuration names for objects that name none.
    fn configured_region(&self) -> Option<&str> {
        None
    }

    /// The region of objects that name none: by the configuration, the environment, or its own default.
    async fn home(&self) -> String;

    /// Where the images of a region are looked for, for whoever finds none there.
    async fn place(&self, region: Option<&str>) -> String;

    /// The account whose credentials are in use, asked once a process; none where there are no accounts.
    ///
    /// # Errors
    /// When the cloud does not tell.
    async fn account(&self) -> Result<Option<String>, BackendError> {
        Ok(None)
    }

    /// What working with it needs, and whether that is there.
    async fn prerequisites(&self, region: Option<&str>, cancel: &CancellationToken) -> Vec<Prerequisite>;

    /// Whether the environment says that it is used; for somebody who has given no configuration.
    fn is_in_environment(&self) -> bool {
        false
    }

    /// The names of all regions that the account may use.
    ///
    /// # Errors
    /// When the cloud does not tell.
    async fn all_regions(&self) -> Result<Vec<String>, Unswept> {
        Ok(Vec::new())
    }

    /// Ends what builds and launches of this computer began that nobody works on any more: each kind by itself.
    async fn recover(&self, dry_run: bool, cancel: &CancellationToken) -> Vec<Result<Vec<Swept>, Unswept>> {
        let _ = (dry_run, cancel);
        Vec::new()
    }

    /// Removes what is past its deadline in a region: each kind by itself.
    async fn sweep(
        &self,
        region: &str,
        dry_run: bool,
        cancel: &CancellationToken,
    ) -> Vec<Result<Vec<Swept>, Unswept>> {
        let _ = (region, dry_run, cancel);
        Vec::new()
    }

    /// Ends what one build began. Where builds are not in the journal there is nothing to be ended.
    ///
    /// # Errors
    /// When something of it stays; so does its entry.
    async fn settle(
        &self,
        record: Record,
        dry_run: bool,
        cancel: &CancellationToken,
    ) -> Result<Vec<Swept>, Unswept> {
        let _ = (dry_run, cancel);
        Err(unknown(&record))
    }
}

/// Why something is not swept.
pub type Unswept = Box<dyn Error + Send + Sync>;

/// What became of what a build or a launch left, with what it is in words.
#[derive(Debug)]
pub enum Swept {
    /// It is removed, or would be.
    Removed(String),
    /// The image had passed all checks. It is complete, or would be, and a look-up finds it.
    Completed(String),
    /// A claim on the image that no state knows is taken off, or would be. The image stays for who asks for it.
    Unclaimed(String),
    /// It cannot be settled now. Its entry stays in the journal.
    Left {
        /// What.
        what: String,
        /// Why.
        why: Unswept,
    },
}

/// An entry of the journal with which nobody here can do anything.
pub(super) fn unknown(record: &Record) -> Unswept {
    let entry = record.entry();
    format!(
        "the journal does not say how to reach the account of build {}\nRun `sweep` of the version that made it, or look in {} for what has that id in its tags, then delete {}",
        entry.build,
        entry.region,
        record.path().display()
    )
    .into()
}

impl About {
    /// The cloud of this name.
    pub fn of(name: &str) -> Option<&'static Self> {
        CLOUDS.iter().copied().find(|cloud| cloud.name == name)
    }

    /// Checks the name of a region where it is not known which cloud is meant: any of them may have it.
    ///
    /// # Errors
    /// Why it is none.
    pub fn check_region(name: &str) -> Result<(), String> {
        let all = CLOUDS.iter().filter_map(|cloud| cloud.region).map(|check| check(name));
        all.reduce(Result::or).unwrap_or(Ok(()))
    }

    /// Whether that is a cloud with regions: neither this computer nor a template.
    pub fn has_regions(name: &str) -> bool {
        Self::of(name).is_some_and(|cloud| cloud.region.is_some())
    }
}
