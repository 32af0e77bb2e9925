//! Removes what killed launches left, before the next machine is launched.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backends::aws::Aws;
use crate::backends::aws::region::Region;
use crate::backends::aws::sweep::{How, SweepError, Swept, whose};
use crate::domain::causes;

/// How long a launch waits for what others left. The rest is the next one's, and `sweep`'s.
const PATIENCE: Duration = Duration::from_secs(60);

/// Removes what launches of this computer left in the region, and once a process what is past its deadline there. What
/// does not go is no reason not to launch.
pub(super) async fn remove(aws: &Aws, region: &Region, cancel: &CancellationToken) {
    let (at, how) = (Some(region.name.as_str()), How::Until(Instant::now() + PATIENCE));
    tell(aws.recover_launches(at, how, cancel).await);
    region.swept.get_or_init(|| async { tell(aws.sweep_overdue_launches(at, how, cancel).await) }).await;
}

fn tell(swept: Result<Vec<Swept>, SweepError>) {
    match swept {
        Ok(swept) => {
            for one in swept {
                match one {
                    Swept::Removed(it) | Swept::Completed(it) | Swept::Unclaimed(it) => {
                        tracing::info!(%it, "removed what a killed launch left");
                    }
                    Swept::Left { build, why, .. } => {
                        let (launch, error) = (whose(&build), causes(&why));
                        tracing::warn!(launch, error, "what a killed launch left is not removed");
                    }
                }
            }
        }
        Err(error) => {
            tracing::warn!(error = causes(&error), "what killed launches left is not removed");
        }
    }
}
