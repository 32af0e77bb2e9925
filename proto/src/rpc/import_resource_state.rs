//! Finds an existing object by the id that a user gave.

use wire::import_resource_state::{ImportedResource, Request, Response};

use super::convert::to_wire_checked;
use super::{Server, wire};
use crate::diag::{Diagnostic, Diagnostics};
use crate::provider::Provider;
use crate::schema::write_only_to_null;

pub(super) async fn handle<P: Provider>(
    server: &Server<P>,
    request: Request,
    diags: &mut Diagnostics,
) -> Option<Response> {
    let entry = server.resource(&request.type_name, diags)?;
    let Some(stored) = server.cancel_token().run_until_cancelled(entry.item.import(&request.id)).await else {
        let text = format!("Reading {} was cancelled.", request.id);
        diags.push(Diagnostic::error("Import cancelled", text));
        return None;
    };
    let stored = stored.map_err(|errors| diags.extend(errors)).ok()?;
    // The host reads the object next; nothing may be unknown until then.
    let mut state = stored.state.unknown_to_null();
    write_only_to_null(&entry.schema().attributes, &mut state);
    let imported = ImportedResource {
        type_name: request.type_name,
        state: Some(to_wire_checked(entry.ty(), state, diags)?),
        private: stored.private.unwrap_or_default(),
        identity: None,
    };
    Some(Response { imported_resources: vec![imported], ..Response::default() })
}
