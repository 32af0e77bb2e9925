//! Hands the provider its configuration.

use wire::configure_provider::{Request, Response};

use super::convert::from_wire_value;
use super::{Server, wire};
use crate::diag::Diagnostics;
use crate::model;
use crate::provider::Provider;

pub(super) async fn handle<P: Provider>(
    server: &Server<P>,
    request: Request,
    diags: &mut Diagnostics,
) -> Option<Response> {
    let config = from_wire_value(request.config, server.config().ty(), diags)?;
    let configured = match model::decode(&config) {
        Ok(config) => server.provider.configure(config, &request.terraform_version).await,
        Err(errors) => Err(errors),
    };
    configured.map_err(|errors| diags.extend(errors)).ok()?;
    Some(Response::default())
}
