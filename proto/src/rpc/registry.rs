//! What the provider offers, by the names that hosts use; and the one token that Stop fires.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::data_source::DynDataSource;
use crate::diag::{Diagnostic, Diagnostics};
use crate::function::Function;
use crate::provider::Provider;
use crate::resource::DynResource;
use crate::schema::Schema;
use crate::value::Type;

/// A provider in service.
pub(crate) struct Server<P> {
    pub(super) provider: Arc<P>,
    config: OnceLock<Schema>,
    pub(super) resources: HashMap<String, Entry<dyn DynResource>>,
    pub(super) data_sources: HashMap<String, Entry<dyn DynDataSource>>,
    pub(super) functions: HashMap<String, Arc<dyn Function>>,
    pub(super) applies: TaskTracker,
    cancel: Mutex<CancellationToken>,
}

/// One thing that has a schema, which is made when first asked for: the handshake must not wait for it.
pub(super) struct Entry<T: ?Sized> {
    pub(super) item: Arc<T>,
    schema: OnceLock<Arc<Schema>>,
}

impl<T: ?Sized> Entry<T> {
    fn new(item: Arc<T>) -> Self {
        Self { item, schema: OnceLock::new() }
    }
}

impl Entry<dyn DynResource> {
    pub(super) fn schema(&self) -> &Arc<Schema> {
        self.schema.get_or_init(|| Arc::new(self.item.schema()))
    }

    pub(super) fn ty(&self) -> &Type {
        self.schema().ty()
    }
}

impl Entry<dyn DynDataSource> {
    pub(super) fn schema(&self) -> &Arc<Schema> {
        self.schema.get_or_init(|| Arc::new(self.item.schema()))
    }

    pub(super) fn ty(&self) -> &Type {
        self.schema().ty()
    }
}

impl<P: Provider> Server<P> {
    pub(crate) fn new(provider: Arc<P>) -> Self {
        let name = |short: &str| format!("{}_{short}", provider.type_name());
        let resources = provider.resources().into_iter();
        let data_sources = provider.data_sources().into_iter();
        let functions = provider.functions().into_iter();
        Self {
            resources: resources.map(|item| (name(item.name()), Entry::new(item))).collect(),
            data_sources: data_sources.map(|item| (name(item.name()), Entry::new(item))).collect(),
            functions: functions.map(|item| (item.name().to_owned(), item)).collect(),
            config: OnceLock::new(),
            applies: TaskTracker::new(),
            cancel: Mutex::default(),
            provider,
        }
    }

    /// The schema of the provider's own configuration.
    pub(super) fn config(&self) -> &Schema {
        self.config.get_or_init(|| Schema::of::<P::Config>(0))
    }

    /// The resource of this type, unless `diags` tells that there is none.
    pub(super) fn resource(&self, name: &str, diags: &mut Diagnostics) -> Option<&Entry<dyn DynResource>> {
        let entry = self.resources.get(name);
        if entry.is_none() {
            diags.push(not_offered("resource type", name));
        }
        entry
    }

    /// The data source of this type, unless `diags` tells that there is none.
    pub(super) fn data_source(
        &self,
        name: &str,
        diags: &mut Diagnostics,
    ) -> Option<&Entry<dyn DynDataSource>> {
        let entry = self.data_sources.get(name);
        if entry.is_none() {
            diags.push(not_offered("data source", name));
        }
        entry
    }

    /// What tells an operation that starts now of the user's interrupt.
    pub(super) fn cancel_token(&self) -> CancellationToken {
        self.cancel.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Cancels what runs; what starts later is not concerned.
    pub(crate) fn stop(&self) {
        let mut current = self.cancel.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *current).cancel();
    }

    /// Waits until no object is being changed, but no longer than `most`.
    pub(crate) async fn wait_idle(&self, most: Duration) {
        self.applies.close();
        if tokio::time::timeout(most, self.applies.wait()).await.is_err() {
            tracing::warn!("operations were still running when the process had to end");
        }
    }
}

fn not_offered(what: &str, name: &str) -> Diagnostic {
    let name: String = name.chars().take(200).collect();
    Diagnostic::error(format!("Unknown {what}"), format!("This provider has no {what} `{name}`."))
}
