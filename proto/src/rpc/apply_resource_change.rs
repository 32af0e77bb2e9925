//! Creates, updates or deletes. Runs on a task of its own: when the host goes away, the RPC's future is
//! dropped, and what has begun must still come to an orderly end.

use std::sync::Arc;

use tokio::task::JoinHandle;
use wire::apply_resource_change::{Request, Response};

use super::convert::{from_wire_value, to_wire_value};
use super::{Server, wire};
use crate::diag::Diagnostics;
use crate::provider::Provider;
use crate::resource::{Applied, ApplyInput, panicked};
use crate::value::Type;

pub(super) async fn handle<P: Provider>(
    server: &Server<P>,
    request: Request,
    diags: &mut Diagnostics,
) -> Option<Response> {
    // Kept as it came: an error with no state beside it would lose the object.
    let as_it_was = Response {
        new_state: request.prior_state.clone(),
        private: request.planned_private.clone(),
        ..Response::default()
    };
    let Some((ty, task)) = start(server, request, diags) else { return Some(as_it_was) };
    match task.await {
        Ok(Applied { state, private, diags: told }) => {
            diags.extend(told);
            Some(Response { new_state: Some(to_wire_value(ty, &state)), private, ..Response::default() })
        }
        Err(failure) => {
            diags.push(panicked(
                &*failure.try_into_panic().unwrap_or_else(|_| Box::new("the task was cancelled")),
            ));
            Some(as_it_was)
        }
    }
}

fn start<'s, P: Provider>(
    server: &'s Server<P>,
    request: Request,
    diags: &mut Diagnostics,
) -> Option<(&'s Type, JoinHandle<Applied>)> {
    let entry = server.resource(&request.type_name, diags)?;
    let ty = entry.ty();
    let input = ApplyInput {
        prior: from_wire_value(request.prior_state, ty, diags)?,
        planned: from_wire_value(request.planned_state, ty, diags)?,
        config: from_wire_value(request.config, ty, diags)?,
        private: request.planned_private,
        cancel: server.cancel_token(),
    };
    let (resource, schema) = (Arc::clone(&entry.item), Arc::clone(entry.schema()));
    Some((ty, server.applies.spawn(async move { resource.apply(schema, input).await })))
}
