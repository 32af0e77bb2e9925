//! Where an image is or is to be: which cloud, and which of its regions.

use tfplugin::Attr;

use super::model::ImageModel;
use crate::backends::{Backends, aws, qemu, template};

/// A cloud and a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) cloud: &'static str,
    pub(crate) region: String,
}

impl Place {
    /// Where an image is to be made: where the plan says, or else the configuration.
    pub(crate) async fn of_new(backends: &Backends, planned: &ImageModel) -> Self {
        match (&planned.region, Self::configured(backends, planned, None).await) {
            (Attr::Known(region), Some(place)) => Self { region: region.clone(), ..place },
            (_, Some(place)) => place,
            (region, None) => {
                let region = region.known_deref().unwrap_or(qemu::REGION).to_owned();
                Self { cloud: planned.configured_cloud(), region }
            }
        }
    }

    /// What the configuration says; none while that is unknown. An image that is there already stays where it is when the
    /// configuration does not say.
    pub(crate) async fn configured(
        backends: &Backends,
        planned: &ImageModel,
        prior: Option<&ImageModel>,
    ) -> Option<Self> {
        if planned.qemu.is_unknown() || planned.aws.is_unknown() || planned.packer.is_unknown() {
            return None;
        }
        if planned.packer.is_known() {
            return Some(Self { cloud: template::CLOUD, region: template::REGION.to_owned() });
        }
        let Some(aws) = planned.aws.known() else {
            return Some(Self { cloud: qemu::CLOUD, region: qemu::REGION.to_owned() });
        };
        let prior = prior.filter(|prior| prior.cloud.known_deref() == Some(aws::CLOUD));
        let region = match (&aws.region, prior.and_then(|prior| prior.region.known())) {
            (Attr::Unknown, _) => return None,
            (Attr::Null, Some(there)) => there.clone(),
            (named, _) => backends.aws.region_name(named.known_deref()).await,
        };
        Some(Self { cloud: aws::CLOUD, region })
    }
}
