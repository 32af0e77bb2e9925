//! Plans a creation, an update or a destruction; the engine in `plan` does the work.

use wire::plan_resource_change::{Request, Response};

use super::convert::{from_wire_value, to_wire_path, to_wire_value};
use super::{Server, wire};
use crate::diag::Diagnostics;
use crate::plan::PlanInput;
use crate::provider::Provider;

pub(super) async fn handle<P: Provider>(
    server: &Server<P>,
    request: Request,
    diags: &mut Diagnostics,
) -> Option<Response> {
    let entry = server.resource(&request.type_name, diags)?;
    let ty = entry.ty();
    let input = PlanInput {
        prior: from_wire_value(request.prior_state, ty, diags)?,
        proposed: from_wire_value(request.proposed_new_state, ty, diags)?,
        config: from_wire_value(request.config, ty, diags)?,
        prior_private: request.prior_private,
    };
    let planned = entry.item.plan(entry.schema().clone(), input, server.cancel_token(), diags).await?;
    Some(Response {
        planned_state: Some(to_wire_value(ty, &planned.state)),
        requires_replace: planned.requires_replace.iter().map(to_wire_path).collect(),
        planned_private: planned.private,
        legacy_type_system: false,
        ..Response::default()
    })
}
