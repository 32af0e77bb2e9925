//! AWS as one of the clouds.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::sweep::{self, How, SweepError, whose};
use super::{ABOUT, Aws};
use crate::backends::{About, Cloud, Swept, Unswept};
use crate::domain::prerequisite::Prerequisite;
use crate::domain::{BackendError, ImageBackend, VmBackend};
use crate::journal::Record;

#[async_trait]
impl Cloud for Aws {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn images(self: Arc<Self>, region: Option<&str>) -> Arc<dyn ImageBackend> {
        Arc::new(Self::images(&self, region))
    }

    fn vms(self: Arc<Self>, region: Option<&str>) -> Arc<dyn VmBackend> {
        Arc::new(Self::vms(&self, region))
    }

    fn configured_region(&self) -> Option<&str> {
        self.settings.region.as_deref()
    }

    async fn home(&self) -> String {
        self.region_name(None).await
    }

    async fn place(&self, region: Option<&str>) -> String {
        format!("in {}", self.region_name(region).await)
    }

    async fn account(&self) -> Result<Option<String>, BackendError> {
        let account = Self::account(self).await;
        account
            .map(|id| Some(id.to_owned()))
            .map_err(|error| BackendError::failed("asking for the account", error))
    }

    async fn prerequisites(&self, region: Option<&str>, _cancel: &CancellationToken) -> Vec<Prerequisite> {
        Self::prerequisites(self, region).await
    }

    fn is_in_environment(&self) -> bool {
        super::identity::is_in_environment()
    }

    async fn all_regions(&self) -> Result<Vec<String>, Unswept> {
        self.region_names().await.map_err(Into::into)
    }

    async fn recover(&self, dry_run: bool, cancel: &CancellationToken) -> Vec<Result<Vec<Swept>, Unswept>> {
        let how = how(dry_run);
        let builds = Self::recover(self, None, how, cancel).await;
        vec![told(builds), told(self.recover_launches(None, how, cancel).await)]
    }

    async fn sweep(
        &self,
        region: &str,
        dry_run: bool,
        cancel: &CancellationToken,
    ) -> Vec<Result<Vec<Swept>, Unswept>> {
        let how = how(dry_run);
        let builds = self.sweep_overdue(Some(region), how, cancel).await;
        vec![told(builds), told(self.sweep_overdue_launches(Some(region), how, cancel).await)]
    }

    async fn settle(
        &self,
        record: Record,
        dry_run: bool,
        cancel: &CancellationToken,
    ) -> Result<Vec<Swept>, Unswept> {
        self.try_on();
        told(Self::settle(self, record, how(dry_run), cancel).await)
    }
}

fn how(dry_run: bool) -> How {
    if dry_run { How::DryRun } else { How::Really }
}

/// In the words of every cloud.
fn told(swept: Result<Vec<sweep::Swept>, SweepError>) -> Result<Vec<Swept>, Unswept> {
    let tell = |one| match one {
        sweep::Swept::Removed(it) => Swept::Removed(it.to_string()),
        sweep::Swept::Completed(it) => Swept::Completed(it.to_string()),
        sweep::Swept::Unclaimed(it) => Swept::Unclaimed(it.to_string()),
        sweep::Swept::Left { build, region, why } => {
            Swept::Left { what: format!("{} in {region}", whose(&build)), why: why.into() }
        }
    };
    Ok(swept?.into_iter().map(tell).collect())
}
