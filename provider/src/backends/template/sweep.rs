//! What became of a template's build, in the words of a sweep.

use tokio_util::sync::CancellationToken;

use super::{REGION, Settled, Templates};
use crate::backends::{Swept, Unswept};
use crate::domain::{BackendError, causes};
use crate::journal::Record;

impl Templates {
    /// Ends what a build began that nobody works on any more.
    ///
    /// # Errors
    /// When something of it stays; so does its entry.
    pub async fn swept(
        &self,
        record: Record,
        dry_run: bool,
        cancel: &CancellationToken,
    ) -> Result<Vec<Swept>, Unswept> {
        let build = record.entry().build.to_string();
        let settled = self.settle(record, dry_run, cancel).await;
        settled.map(|settled| swept(&build, settled)).map_err(|error| unsettled(&build, &error))
    }
}

fn swept(build: &str, settled: Settled) -> Vec<Swept> {
    let remain = |id| format!("image {id} in {REGION} of build {build}");
    let done = settled.completed.map(|id| Swept::Completed(remain(id)));
    let deleted = settled.deleted.into_iter().map(|id| Swept::Removed(remain(id)));
    let unseen = |why: String| Swept::Left { what: format!("build {build} in {REGION}"), why: why.into() };
    done.into_iter().chain(deleted).chain(settled.unseen.into_iter().map(unseen)).collect()
}

fn unsettled(build: &str, error: &BackendError) -> Unswept {
    let why = causes(error);
    format!(
        "what build {build} of a template made cannot be removed: {why}\nEnd what uses it, then run `terraform-provider-sindri sweep`; it costs money until then"
    )
    .into()
}
