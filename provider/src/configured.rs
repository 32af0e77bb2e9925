//! The provider's configuration, as resources and data sources get it.

use std::sync::{Arc, PoisonError, RwLock};

use tfplugin::{Diagnostic, Diagnostics};

use crate::backends::Backends;

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

    /// What the configuration says; nothing while that is not known.
    pub fn set(&self, backends: Option<Backends>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = backends.map(Arc::new);
    }
}
