//! Where an image is or is to be: which cloud, and which of its regions.

use tfplugin::Attr;

use super::model::ImageModel;
use crate::backends::{Backends, ImageSection, LOCAL, LOCAL_REGION};

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
                let region = region.known_deref().unwrap_or(LOCAL_REGION).to_owned();
                Self { cloud: planned.section().map_or(LOCAL, ImageSection::cloud), region }
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
        let Attr::Known(section) = planned.chosen() else { return None };
        let cloud = section.cloud();
        let prior = prior.filter(|prior| prior.cloud.known_deref() == Some(cloud));
        let region = match (section.region(), prior.and_then(|prior| prior.region.known())) {
            (Attr::Unknown, _) => return None,
            (Attr::Known(named), _) => named.to_owned(),
            (Attr::Null, Some(there)) => there.clone(),
            (Attr::Null, None) => backends.home(cloud).await,
        };
        Some(Self { cloud, region })
    }
}
