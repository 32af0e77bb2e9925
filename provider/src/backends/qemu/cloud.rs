//! This computer as one of the clouds.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{ABOUT, Local, REGION};
use crate::backends::{About, Cloud};
use crate::domain::prerequisite::Prerequisite;
use crate::domain::{ImageBackend, VmBackend};

#[async_trait]
impl Cloud for Local {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn images(self: Arc<Self>, _region: Option<&str>) -> Arc<dyn ImageBackend> {
        self
    }

    fn vms(self: Arc<Self>, _region: Option<&str>) -> Arc<dyn VmBackend> {
        self
    }

    async fn home(&self) -> String {
        REGION.to_owned()
    }

    async fn place(&self, _region: Option<&str>) -> String {
        format!("in {}", self.store.root().display())
    }

    async fn prerequisites(&self, _region: Option<&str>, cancel: &CancellationToken) -> Vec<Prerequisite> {
        Self::prerequisites(self, cancel).await
    }
}
