//! Checks the configuration of a resource, telling every mistake at once.

use wire::validate_resource_config::{Request, Response};

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
    let entry = server.resource(&request.type_name, diags)?;
    let config = from_wire_value(request.config, entry.ty(), diags)?;
    let write_only_allowed =
        request.client_capabilities.is_some_and(|host| host.write_only_attributes_allowed);
    check_config(&entry.schema().attributes, &config, write_only_allowed, diags);
    entry.item.validate(&config, diags).await;
    Some(Response::default())
}
