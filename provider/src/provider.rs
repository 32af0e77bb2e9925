//! The provider's configuration, and the only registry of resources, data sources and functions.

mod config;

use std::sync::Arc;

use async_trait::async_trait;
use tfplugin::{Diagnostics, DynDataSource, DynResource, Function};

pub use config::ProviderModel;

use crate::configured::Configured;
use crate::data_sources::{ImageDataSource, ImagesDataSource, PrerequisitesDataSource, TemplateDataSource};
use crate::functions::{AnsibleInventory, SshConfig};
use crate::resources::image::ImageResource;
use crate::resources::vm::VmResource;

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
