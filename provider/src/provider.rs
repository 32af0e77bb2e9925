//! The provider's configuration, and the only registry of resources, data sources and functions.

mod config;

use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use tfplugin::{Diagnostic, Diagnostics, DynDataSource, DynResource, Function};

pub use config::ProviderModel;

use crate::backends::Backends;
use crate::data_sources::{ImageDataSource, ImagesDataSource, PrerequisitesDataSource, TemplateDataSource};
use crate::functions::{AnsibleInventory, SshConfig};
use crate::resources::image::ImageResource;
use crate::resources::vm::VmResource;

/// What resources and data sources share: the backends, once the provider is configured.
#[derive(Debug, Default)]
pub struct Configured(RwLock<Option<Arc<Backends>>>);

impl Configured {
    /// The backends, if the provider is configured and all that they need is known.
    pub fn backends(&self) -> Option<Arc<Backends>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The backends, for what cannot go on without.
    ///
    /// # Errors
    /// When the provider's configuration is not known yet.
    pub fn require(&self) -> Result<Arc<Backends>, Diagnostics> {
        self.backends().ok_or_else(Self::unknown)
    }

    /// What is needed is not known yet.
    pub fn unknown() -> Diagnostics {
        let text = "The provider's configuration depends on values that are only known after apply. Apply what they come from first, with `-target`, or write them down.";
        Diagnostic::error("Provider not configured", text).into()
    }

    fn set(&self, backends: Option<Backends>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = backends.map(Arc::new);
    }
}

/// The provider.
#[derive(Debug, Default)]
pub struct Provider {
    configured: Arc<Configured>,
}

#[async_trait]
impl tfplugin::Provider for Provider {
    type Config = ProviderModel;

    fn type_name(&self) -> &'static str {
        "sindri"
    }

    async fn configure(&self, config: ProviderModel, host_version: &str) -> Result<(), Diagnostics> {
        tracing::debug!(host_version, "configured");
        self.configured.set(config.backends()?);
        Ok(())
    }

    fn resources(&self) -> Vec<Arc<dyn DynResource>> {
        vec![
            Arc::new(ImageResource::new(Arc::clone(&self.configured))),
            Arc::new(VmResource::new(Arc::clone(&self.configured))),
        ]
    }

    fn data_sources(&self) -> Vec<Arc<dyn DynDataSource>> {
        vec![
            Arc::new(ImageDataSource::new(Arc::clone(&self.configured))),
            Arc::new(ImagesDataSource::new(Arc::clone(&self.configured))),
            Arc::new(PrerequisitesDataSource::new(Arc::clone(&self.configured))),
            Arc::new(TemplateDataSource::new(Arc::clone(&self.configured))),
        ]
    }

    fn functions(&self) -> Vec<Arc<dyn Function>> {
        vec![Arc::new(SshConfig), Arc::new(AnsibleInventory)]
    }
}
