//! The backends, and the one list of them.

pub mod aws;
mod cloud;
pub mod qemu;
mod section;
mod target;
pub mod template;

use std::path::PathBuf;
use std::sync::Arc;

use aws::Aws;
use qemu::Local;
use template::{Known, Templates};
use tokio_util::sync::CancellationToken;

pub use cloud::{About, Check, Cloud, Swept, Unswept};
pub use section::{ImageAround, ImageSection, ImageSlot, VmAround, VmChange, VmSection, VmSlot, chosen};
pub use target::{KeyError, Problems, Target};

use crate::domain::prerequisite::Prerequisite;
use crate::domain::{BackendError, ImageBackend, Tagging, VmBackend};
use crate::journal::Record;
use crate::packer;
use crate::process::Runner;

/// The backends as the provider's configuration sets them up.
#[derive(Debug, Clone)]
pub struct Backends {
    /// Which tags every object gets, and which are left alone.
    pub tagging: Tagging,
    /// This computer.
    pub local: Arc<Local>,
    /// AWS.
    pub aws: Arc<Aws>,
    /// Templates of the user's own.
    pub templates: Arc<Templates>,
}

/// Programs that builds use.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Starts them.
    pub runner: Runner,
    /// Which Packer is used.
    pub packer: packer::Settings,
    /// A folder that all runs on this computer share.
    pub cache_dir: PathBuf,
}

/// All clouds, this computer among them.
pub const CLOUDS: &[&About] = &[&qemu::ABOUT, &aws::ABOUT];

/// This computer, as `cloud` has it.
pub const LOCAL: &str = qemu::CLOUD;

/// What stands for its region.
pub const LOCAL_REGION: &str = qemu::REGION;

impl Backends {
    /// All of them. Nothing is asked or loaded yet.
    pub fn new(tagging: Tagging, local: Local, aws: Aws) -> Self {
        let aws = Arc::new(aws);
        let templates = Templates {
            data_dir: local.store.root().to_owned(),
            cache_dir: local.cache_dir.clone(),
            runner: local.runner.clone(),
            packer: local.packer.clone(),
            claims: Default::default(),
            keepers: vec![Arc::new(aws::image::AmiKeeper::new(Arc::clone(&aws)))],
        };
        Self { tagging, local: Arc::new(local), aws, templates: Arc::new(templates) }
    }

    /// All clouds, this computer first.
    pub fn clouds(&self) -> Vec<Arc<dyn Cloud>> {
        vec![Arc::clone(&self.local) as _, Arc::clone(&self.aws) as _]
    }

    fn cloud(&self, name: &str) -> Option<Arc<dyn Cloud>> {
        self.clouds().into_iter().find(|cloud| cloud.about().name == name)
    }

    /// The images of a cloud, by the name that `cloud` has in state, and of a region, where the cloud has some.
    pub fn images(&self, cloud: &str, region: Option<&str>) -> Option<Arc<dyn ImageBackend>> {
        if cloud == template::CLOUD {
            return Some(self.template_images(None));
        }
        Some(self.cloud(cloud)?.images(region))
    }

    /// Where images of a cloud are looked for, for whoever finds none there.
    pub async fn place(&self, cloud: &str, region: Option<&str>) -> String {
        match self.cloud(cloud) {
            Some(cloud) => cloud.place(region).await,
            None => self.local.place(region).await,
        }
    }

    /// Images of templates; `known` is what state says of the one that is meant.
    pub fn template_images(&self, known: Option<Known>) -> Arc<dyn ImageBackend> {
        Arc::new(self.templates.images(known))
    }

    /// The machines of a cloud, by the name that `cloud` has in state, and of a region, where the cloud has some.
    pub fn vms(&self, cloud: &str, region: Option<&str>) -> Option<Arc<dyn VmBackend>> {
        Some(self.cloud(cloud)?.vms(region))
    }

    /// The account of a cloud whose credentials are in use, asked once a process; none where a cloud has no accounts.
    ///
    /// # Errors
    /// When the cloud does not tell.
    pub async fn account(&self, cloud: &str) -> Result<Option<String>, BackendError> {
        match self.cloud(cloud) {
            Some(cloud) => cloud.account().await,
            None => Ok(None),
        }
    }

    /// The region of a cloud's objects that name none: by the configuration, the environment, or the cloud's own default.
    pub async fn home(&self, cloud: &str) -> String {
        match self.cloud(cloud) {
            Some(cloud) => cloud.home().await,
            None => LOCAL_REGION.to_owned(),
        }
    }

    /// The region that the configuration names for a cloud's objects that name none.
    pub fn configured_region(&self, cloud: &str) -> Option<String> {
        self.cloud(cloud)?.configured_region().map(str::to_owned)
    }

    /// What working with a cloud needs, and whether it is there.
    pub async fn prerequisites(
        &self,
        cloud: &str,
        region: Option<&str>,
        cancel: &CancellationToken,
    ) -> Vec<Prerequisite> {
        match self.cloud(cloud) {
            Some(cloud) => cloud.prerequisites(region, cancel).await,
            None => Vec::new(),
        }
    }

    /// Ends what a build began that nobody works on any more.
    ///
    /// # Errors
    /// When something of it stays; so does its entry.
    pub async fn settle(
        &self,
        record: Record,
        dry_run: bool,
        cancel: &CancellationToken,
    ) -> Result<Vec<Swept>, Unswept> {
        let cloud = record.entry().cloud.clone();
        if cloud == template::CLOUD {
            return self.templates.swept(record, dry_run, cancel).await;
        }
        match self.cloud(&cloud) {
            Some(cloud) => cloud.settle(record, dry_run, cancel).await,
            None => Err(cloud::unknown(&record)),
        }
    }

    /// What builds with Packer use.
    pub fn tools(&self) -> Tools {
        Tools {
            runner: self.local.runner.clone(),
            packer: self.local.packer.clone(),
            cache_dir: self.local.cache_dir.clone(),
        }
    }
}

/// What an import is given: `CLOUD/ID`, and for a cloud with regions `CLOUD/REGION/ID`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportId<'a> {
    /// The cloud, as it stands in state.
    pub cloud: &'a str,
    /// The region, where the cloud has some.
    pub region: Option<&'a str>,
    /// The object's own id.
    pub id: &'a str,
}

impl<'a> ImportId<'a> {
    /// Reads it; none when it is nothing of the kind.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (cloud, rest) = text.split_once('/')?;
        let parsed = match About::of(cloud)?.region {
            None => Self { cloud, region: None, id: rest },
            Some(check) => {
                let (region, id) = rest.split_once('/')?;
                check(region).ok()?;
                Self { cloud, region: Some(region), id }
            }
        };
        (!parsed.id.is_empty() && !parsed.id.contains('/')).then_some(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_imported_says_where_it_is() {
        let parsed = |cloud, region, id| Some(ImportId { cloud, region, id });
        assert_eq!(ImportId::parse("qemu/x"), parsed("qemu", None, "x"));
        assert_eq!(ImportId::parse("aws/us-west-2/i-1"), parsed("aws", Some("us-west-2"), "i-1"));
        for wrong in ["", "x", "qemu/", "qemu/a/b", "aws/i-1", "aws/here/i-1", "aws/us-west-2/", "other/x"] {
            assert_eq!(ImportId::parse(wrong), None, "{wrong}");
        }
    }
}
