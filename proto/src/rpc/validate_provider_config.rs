//! Checks the provider's configuration, telling every mistake at once.

use wire::validate_provider_config::{Request, Response};

use super::convert::from_wire_value;
use super::{Server, wire};
use crate::diag::Diagnostics;
use crate::model;
use crate::provider::Provider;
use crate::schema::check_config;

pub(super) async fn handle<P: Provider>(
    server: &Server<P>,
    request: Request,
    diags: &mut Diagnostics,
) -> Option<Response> {
    let schema = server.config();
    let config = from_wire_value(request.config, schema.ty(), diags)?;
    // Providers' write-only attributes need no support by the host: a provider's configuration is not stored.
    check_config(&schema.attributes, &config, true, diags);
    match model::decode(&config) {
        Ok(config) => server.provider.validate(&config, diags).await,
        Err(errors) => diags.extend(errors),
    }
    Some(Response::default())
}
