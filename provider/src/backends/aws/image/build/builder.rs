//! The builder after Packer, which ends it. When it cannot, it says so, and succeeds all the same.

use aws_sdk_ec2::types::Instance;

use super::Work;
use crate::backends::aws::region::{self, is_gone, tag_filter};
use crate::backends::aws::{AwsError, tags};
use crate::domain::causes;

/// Ends a builder that Packer left. Whether there is none any more that costs money: where there is, the journal must still
/// have it.
pub(super) async fn end(work: &Work<'_>) -> bool {
    match ended(work).await {
        Ok(()) => true,
        Err(error) => {
            let error = causes(&error);
            work.log.step(&format!(
                "Whether the builder has ended is not known: {error}\nThe next build ends it, or `terraform-provider-sindri sweep`"
            ));
            tracing::warn!(build = %work.id, error, "a builder that Packer left costs money until it is ended");
            false
        }
    }
}

async fn ended(work: &Work<'_>) -> Result<(), AwsError> {
    let ec2 = &work.region.ec2;
    let found = region::instances(ec2, tag_filter(tags::BUILD, [work.id.to_string()])).await?;
    let left = found.iter().filter(|instance| !is_gone(instance)).filter_map(Instance::instance_id);
    let left: Vec<String> = left.map(str::to_owned).collect();
    if left.is_empty() {
        return Ok(());
    }
    work.log.step(&format!("Terminating {}, which Packer left", left.join(", ")));
    let asked = ec2.terminate_instances().set_instance_ids(Some(left)).send().await;
    asked.map(drop).map_err(|error| AwsError::of("TerminateInstances", error))
}
