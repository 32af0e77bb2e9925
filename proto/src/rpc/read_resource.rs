//! Reads an object as it is now. No new state says that it is gone.

use wire::read_resource::{Request, Response};

use super::convert::{from_wire_value, to_wire_checked};
use super::{Server, wire};
use crate::diag::Diagnostics;
use crate::provider::Provider;
use crate::resource::ReadInput;
use crate::schema::write_only_to_null;

pub(super) async fn handle<P: Provider>(
    server: &Server<P>,
    request: Request,
    diags: &mut Diagnostics,
) -> Option<Response> {
    let entry = server.resource(&request.type_name, diags)?;
    let state = from_wire_value(request.current_state, entry.ty(), diags)?;
    if state.is_null() {
        return Some(Response::default());
    }
    let private = request.private;
    let input = ReadInput { state, private: private.clone(), cancel: server.cancel_token() };
    let read = entry.item.read(input, diags).await.map_err(|errors| diags.extend(errors)).ok()?;
    let Some(stored) = read else { return Some(Response::default()) };
    let mut state = stored.state;
    write_only_to_null(&entry.schema().attributes, &mut state);
    if !state.is_wholly_known() {
        let text = "Reading left attributes unknown. This is a bug in the provider; please report it.";
        diags.push(crate::diag::Diagnostic::error("Provider returned an invalid state", text));
        return None;
    }
    let new_state = to_wire_checked(entry.ty(), state, diags)?;
    let private = stored.private.unwrap_or(private);
    Some(Response { new_state: Some(new_state), private, ..Response::default() })
}
