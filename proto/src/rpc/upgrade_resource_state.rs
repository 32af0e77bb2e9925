//! Brings stored state to the current schema. Hosts ask this of current state, too.

use wire::upgrade_resource_state::{Request, Response};

use super::convert::{to_wire_checked, unreadable};
use super::{Server, wire};
use crate::diag::{Diagnostic, Diagnostics};
use crate::provider::Provider;
use crate::schema::write_only_to_null;
use crate::value::json;

pub(super) async fn handle<P: Provider>(
    server: &Server<P>,
    request: Request,
    diags: &mut Diagnostics,
) -> Option<Response> {
    let entry = server.resource(&request.type_name, diags)?;
    let schema = entry.schema();
    let Some(raw) = request.raw_state else {
        // Nothing stored is nothing to upgrade.
        return Some(Response::default());
    };
    if raw.json.is_empty() {
        let text = "The state was written by Terraform 0.11 or earlier, in a format that this provider does not \
                    read. Remove the object from the state and import it.";
        diags.push(Diagnostic::error("State too old", text));
        return None;
    }
    if request.version > schema.version {
        let text = format!(
            "The state of `{}` was written by a newer version of this provider (schema {}, this one has {}). \
             Use that version or a newer one.",
            request.type_name, request.version, schema.version
        );
        diags.push(Diagnostic::error("State too new", text));
        return None;
    }
    let mut state = if request.version == schema.version {
        json::decode(entry.ty(), &raw.json)
            .map_err(|error| diags.push(unreadable(&error.to_string())))
            .ok()?
    } else {
        let old = json::decode_untyped(&raw.json)
            .map_err(|error| diags.push(unreadable(&error.to_string())))
            .ok()?;
        entry.item.upgrade(request.version, old).await.map_err(|errors| diags.extend(errors)).ok()?
    };
    write_only_to_null(&schema.attributes, &mut state);
    entry.item.stored(&state);
    let upgraded_state = to_wire_checked(entry.ty(), state, diags)?;
    Some(Response { upgraded_state: Some(upgraded_state), ..Response::default() })
}
