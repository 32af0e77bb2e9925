//! What a provider is: its configuration, and what it offers.

use std::sync::Arc;

use async_trait::async_trait;

use crate::data_source::DynDataSource;
use crate::diag::Diagnostics;
use crate::function::Function;
use crate::model::Model;
use crate::resource::DynResource;

/// A provider: what [`crate::serve()`] serves.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// The schema and values of its configuration.
    type Config: Model + Send + Sync + 'static;

    /// The prefix of its resources' types: `"sindri"` makes `sindri_image` of `"image"`.
    fn type_name(&self) -> &'static str;

    /// Checks what one attribute's own validators cannot. Unknown values are fine here.
    async fn validate(&self, config: &Self::Config, diags: &mut Diagnostics) {
        let _ = (config, diags);
    }

    /// Takes the configuration, before any resource is planned or read. `host_version` is the version of the
    /// program that runs the provider. Values may still be unknown during a plan.
    async fn configure(&self, config: Self::Config, host_version: &str) -> Result<(), Diagnostics>;

    /// The resources.
    fn resources(&self) -> Vec<Arc<dyn DynResource>>;

    /// The data sources.
    fn data_sources(&self) -> Vec<Arc<dyn DynDataSource>> {
        Vec::new()
    }

    /// The functions.
    fn functions(&self) -> Vec<Arc<dyn Function>> {
        Vec::new()
    }
}
