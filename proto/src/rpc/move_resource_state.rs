//! Takes over state from another resource type. OpenTofu calls it without asking whether it is offered.

use wire::move_resource_state::{Request, Response};

use super::convert::{to_wire_checked, unreadable};
use super::{Server, wire};
use crate::diag::{Diagnostic, Diagnostics};
use crate::provider::Provider;
use crate::resource::MovedFrom;
use crate::schema::write_only_to_null;
use crate::value::json;

pub(super) async fn handle<P: Provider>(
    server: &Server<P>,
    request: Request,
    diags: &mut Diagnostics,
) -> Option<Response> {
    let entry = server.resource(&request.target_type_name, diags)?;
    let raw = request.source_state.unwrap_or_default();
    let state = if raw.json.is_empty() {
        // Terraform 0.11 and earlier: nobody reads that.
        crate::value::Value::Null
    } else {
        json::decode_untyped(&raw.json).map_err(|error| diags.push(unreadable(&error.to_string()))).ok()?
    };
    let source = MovedFrom {
        provider: request.source_provider_address,
        type_name: request.source_type_name,
        version: request.source_schema_version,
        state,
    };
    let type_name = source.type_name.clone();
    let taken = entry.item.take_over(source).await.map_err(|errors| diags.extend(errors)).ok()?;
    let Some(stored) = taken else {
        diags.push(refused(&type_name, &request.target_type_name));
        return None;
    };
    // The host reads the object next; nothing may be unknown until then.
    let mut state = stored.state.unknown_to_null();
    write_only_to_null(&entry.schema().attributes, &mut state);
    Some(Response {
        target_state: Some(to_wire_checked(entry.ty(), state, diags)?),
        target_private: stored.private.unwrap_or_default(),
        ..Response::default()
    })
}

fn refused(source: &str, target: &str) -> Diagnostic {
    let source: String = source.chars().take(200).collect();
    let text = format!(
        "Objects of type `{source}` cannot become `{target}`. Remove the object from the state and import it as the new type."
    );
    Diagnostic::error("Move not supported", text)
}
