//! What every reply has in common: diagnostics, and that a panic becomes one.

use std::any::Any;

use tonic::{Response, Status};

use super::convert::to_wire_diagnostic;
use super::wire;
use crate::diag::Diagnostics;
use crate::resource::panicked;

/// A reply that carries diagnostics.
pub(super) trait Reply: Default {
    /// Puts the diagnostics in.
    fn tell(&mut self, diags: Vec<wire::Diagnostic>);
}

macro_rules! replies {
    ($($module:ident),* $(,)?) => {$(
        impl Reply for wire::$module::Response {
            fn tell(&mut self, diags: Vec<wire::Diagnostic>) {
                self.diagnostics = diags;
            }
        }
    )*};
}
replies!(
    apply_resource_change,
    configure_provider,
    get_functions,
    get_metadata,
    get_provider_schema,
    import_resource_state,
    move_resource_state,
    plan_resource_change,
    read_data_source,
    read_resource,
    upgrade_resource_state,
    validate_data_resource_config,
    validate_provider_config,
    validate_resource_config,
);

/// Runs a handler and makes a reply of what it returns, tells or panics with. A handler that returns `None`
/// has told why.
macro_rules! reply {
    ($module:ident, $server:expr, $request:expr) => {{
        let mut diags = $crate::diag::Diagnostics::new();
        let handler = super::$module::handle($server, $request.into_inner(), &mut diags);
        let outcome = ::futures::FutureExt::catch_unwind(::std::panic::AssertUnwindSafe(handler)).await;
        $crate::rpc::reply::finish(outcome, diags)
    }};
}
pub(super) use reply;

/// Puts the diagnostics into a reply.
pub(super) fn finish<R: Reply>(
    outcome: Result<Option<R>, Box<dyn Any + Send>>,
    mut diags: Diagnostics,
) -> Result<Response<R>, Status> {
    let mut response = match outcome {
        Ok(response) => response.unwrap_or_default(),
        Err(panic) => {
            diags.push(panicked(&*panic));
            R::default()
        }
    };
    response.tell(diags.iter().map(to_wire_diagnostic).collect());
    Ok(Response::new(response))
}
