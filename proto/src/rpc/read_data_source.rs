//! Reads an object that the configuration describes.

use wire::read_data_source::{Request, Response};

use super::convert::{from_wire_value, to_wire_checked};
use super::{Server, wire};
use crate::diag::{Diagnostic, Diagnostics};
use crate::provider::Provider;

pub(super) async fn handle<P: Provider>(
    server: &Server<P>,
    request: Request,
    diags: &mut Diagnostics,
) -> Option<Response> {
    let entry = server.data_source(&request.type_name, diags)?;
    let config = from_wire_value(request.config, entry.ty(), diags)?;
    let read = entry.item.read(&config, server.cancel_token(), diags).await;
    let state = read.map_err(|errors| diags.extend(errors)).ok()?;
    if !state.is_wholly_known() {
        let text = "Reading left attributes unknown. This is a bug in the provider; please report it.";
        diags.push(Diagnostic::error("Provider returned an invalid state", text));
        return None;
    }
    let state = to_wire_checked(entry.ty(), state, diags)?;
    Some(Response { state: Some(state), ..Response::default() })
}
