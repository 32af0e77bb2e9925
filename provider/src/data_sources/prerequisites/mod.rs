//! `data "sindri_prerequisites"`: what is needed to build images and run machines, and what of it is there.

use std::sync::Arc;

use async_trait::async_trait;
use tfplugin::{Attr, CancellationToken, DataSource, Diagnostics, Model};

use super::images::{check_region, cloud, region};
use crate::configured::Configured;
use crate::diagnose;
use crate::domain::prerequisite::{Prerequisite, satisfied};
use crate::domain::unless_cancelled;

/// What is needed to work with a cloud, and whether it is there; for `check` blocks and for people.
#[derive(Debug, Clone, Default, Model)]
pub struct PrerequisitesModel {
    /// What for: `"qemu"`, this computer, or `"aws"`, where credentials and permissions are looked at.
    #[attr(required, validate = cloud)]
    pub cloud: Attr<String>,
    /// In which region of the cloud; the provider's when not set.
    #[attr(optional, validate = region)]
    pub region: Attr<String>,
    /// Whether all that is required is there.
    #[attr(computed)]
    pub satisfied: Attr<bool>,
    /// All that was looked at.
    #[attr(computed)]
    pub prerequisites: Attr<Vec<PrerequisiteModel>>,
}

/// One thing that is needed.
#[derive(Debug, Clone, Default, Model)]
pub struct PrerequisiteModel {
    /// What it is.
    #[attr(computed)]
    pub name: Attr<String>,
    /// Which version was found.
    #[attr(computed)]
    pub version: Attr<String>,
    /// `"ok"`, `"missing"` or `"unusable"`.
    #[attr(computed)]
    pub state: Attr<String>,
    /// What was found, or what to do.
    #[attr(computed)]
    pub hint: Attr<String>,
    /// Whether nothing works without it; the rest makes things faster or serves some uses only.
    #[attr(computed)]
    pub required: Attr<bool>,
}

impl From<&Prerequisite> for PrerequisiteModel {
    fn from(prerequisite: &Prerequisite) -> Self {
        Self {
            name: prerequisite.name.as_str().into(),
            version: prerequisite.version.clone().into(),
            state: prerequisite.state.name().into(),
            hint: prerequisite.hint.as_str().into(),
            required: prerequisite.required.into(),
        }
    }
}

/// The data source.
#[derive(Debug)]
pub struct PrerequisitesDataSource(Arc<Configured>);

impl PrerequisitesDataSource {
    /// The data source of a provider.
    pub fn new(provider: Arc<Configured>) -> Self {
        Self(provider)
    }
}

#[async_trait]
impl DataSource for PrerequisitesDataSource {
    type Model = PrerequisitesModel;

    fn name(&self) -> &'static str {
        "prerequisites"
    }

    async fn validate(&self, config: &PrerequisitesModel, diags: &mut Diagnostics) {
        check_region(&config.cloud, &config.region, diags);
    }

    async fn read(
        &self,
        mut config: PrerequisitesModel,
        cancel: CancellationToken,
        _diags: &mut Diagnostics,
    ) -> Result<PrerequisitesModel, Diagnostics> {
        let backends = self.0.require()?;
        let cloud = config.cloud.known_deref().unwrap_or_default();
        let looking = async { Ok(backends.prerequisites(cloud, config.region.known_deref(), &cancel).await) };
        let found = unless_cancelled("looking for what is needed", looking, &cancel).await;
        let found = found.map_err(|error| diagnose::backend("Prerequisites not known", &error))?;
        config.satisfied = satisfied(&found).into();
        config.prerequisites = Attr::Known(found.iter().map(PrerequisiteModel::from).collect());
        Ok(config)
    }
}
