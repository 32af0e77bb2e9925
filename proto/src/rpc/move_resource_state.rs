//! Takes over state from another resource type: not offered yet. OpenTofu calls it without asking whether it is.

use wire::move_resource_state::{Request, Response};

use super::{Server, wire};
use crate::diag::{Diagnostic, Diagnostics};
use crate::provider::Provider;

pub(super) async fn handle<P: Provider>(
    _: &Server<P>,
    request: Request,
    diags: &mut Diagnostics,
) -> Option<Response> {
    let text = format!(
        "Objects of type `{}` cannot become `{}`. Remove the object from the state and import it as the new type.",
        request.source_type_name, request.target_type_name
    );
    diags.push(Diagnostic::error("Move not supported", text));
    None
}
