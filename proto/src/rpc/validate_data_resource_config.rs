//! Checks the configuration of a data source, telling every mistake at once.

use wire::validate_data_resource_config::{Request, Response};

use super::convert::from_wire_value;
use super::{Server, wire};
use crate::diag::Diagnostics;
use crate::provider::Provider;
use crate::schema::check_config;

pub(super) async fn handle<P: Provider>(
    server: &Server<P>,
    request: Request,
    diags: &mut Diagnostics,
) -> Option<Response> {
    let entry = server.data_source(&request.type_name, diags)?;
    let config = from_wire_value(request.config, entry.ty(), diags)?;
    // The configuration of a data source has no write-only attributes.
    check_config(&entry.schema().attributes, &config, true, diags);
    entry.item.validate(&config, diags).await;
    Some(Response::default())
}
