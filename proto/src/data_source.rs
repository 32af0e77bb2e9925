//! Data sources: objects that a configuration only reads.

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::diag::Diagnostics;
use crate::model::{self, Model};
use crate::schema::Schema;
use crate::value::Value;

/// A kind of object that a configuration reads.
#[async_trait]
pub trait DataSource: Send + Sync + 'static {
    /// Its schema and values.
    type Model: Model + Clone + Send + Sync + 'static;

    /// Its type without the provider's prefix: `"image"`.
    fn name(&self) -> &'static str;

    /// Checks what one attribute's own validators cannot. Unknown values are fine here.
    async fn validate(&self, config: &Self::Model, diags: &mut Diagnostics) {
        let _ = (config, diags);
    }

    /// Reads the object that `config` describes; the result repeats what is configured. `cancel` fires when
    /// the user interrupts.
    async fn read(
        &self,
        config: Self::Model,
        cancel: CancellationToken,
        diags: &mut Diagnostics,
    ) -> Result<Self::Model, Diagnostics>;
}

/// A data source of any model. Implemented for every [`DataSource`].
#[async_trait]
pub trait DynDataSource: Send + Sync + 'static {
    /// Its type without the provider's prefix.
    fn name(&self) -> &'static str;

    /// Its schema.
    fn schema(&self) -> Schema;

    #[doc(hidden)]
    async fn validate(&self, config: &Value, diags: &mut Diagnostics);

    #[doc(hidden)]
    async fn read(
        &self,
        config: &Value,
        cancel: CancellationToken,
        diags: &mut Diagnostics,
    ) -> Result<Value, Diagnostics>;
}

#[async_trait]
impl<D: DataSource> DynDataSource for D {
    fn name(&self) -> &'static str {
        DataSource::name(self)
    }

    fn schema(&self) -> Schema {
        Schema::of::<D::Model>(0)
    }

    async fn validate(&self, config: &Value, diags: &mut Diagnostics) {
        match model::decode(config) {
            Ok(config) => DataSource::validate(self, &config, diags).await,
            Err(errors) => diags.extend(errors),
        }
    }

    async fn read(
        &self,
        config: &Value,
        cancel: CancellationToken,
        diags: &mut Diagnostics,
    ) -> Result<Value, Diagnostics> {
        let config = model::decode(config)?;
        Ok(DataSource::read(self, config, cancel, diags).await?.encode())
    }
}
