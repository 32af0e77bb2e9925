//! Whether what state names can be seen from here: in the store that we work with, and with the account's credentials.

use tfplugin::{Attr, Diagnostics};

use super::account;
use super::deadline::Time;
use crate::backends::Backends;
use crate::diagnose;

/// An object as state names it.
#[derive(Debug)]
pub(super) struct Object<'a> {
    /// What it is, as a message begins with it.
    pub(super) title: &'static str,
    /// Its id.
    pub(super) id: &'a Attr<String>,
    /// Where it is.
    pub(super) cloud: &'a str,
    /// Which local store has it.
    pub(super) store: &'a Attr<String>,
}

impl Object<'_> {
    /// Whether it is in the store that we work with; false when it is elsewhere and to be forgotten.
    ///
    /// # Errors
    /// When it is elsewhere, and is not to be forgotten.
    pub(super) fn is_here(&self, backends: &Backends) -> Result<bool, Diagnostics> {
        let (true, Some(store)) = (self.id.is_known(), self.store.known()) else { return Ok(true) };
        let here = backends.local.is_here(&self.name(), store);
        here.map_err(|error| diagnose::backend(&format!("{} out of reach", self.title), &error).into())
    }

    /// Refuses to work on it, or to take it for gone, with credentials of another account than the one that is kept with it:
    /// see [`account::check`].
    ///
    /// # Errors
    /// When the accounts differ, or the cloud does not tell whose the credentials are.
    pub(super) async fn check_account(
        &self,
        backends: &Backends,
        kept: Option<&str>,
        time: &Time,
    ) -> Result<(), Diagnostics> {
        account::check(backends, self.cloud, &self.name(), kept, time).await
    }

    fn name(&self) -> String {
        format!("{} {}", self.title.to_lowercase(), self.id.known_deref().unwrap_or_default())
    }
}
