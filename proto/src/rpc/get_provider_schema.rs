//! Everything that is offered.

use wire::get_provider_schema::{Request, Response};

use super::convert::to_wire_schema;
use super::get_functions::to_wire_functions;
use super::{Server, wire};
use crate::diag::Diagnostics;
use crate::provider::Provider;

pub(super) async fn handle<P: Provider>(
    server: &Server<P>,
    _: Request,
    _: &mut Diagnostics,
) -> Option<Response> {
    let resources = server.resources.iter();
    let data_sources = server.data_sources.iter();
    Some(Response {
        provider: Some(to_wire_schema(server.config())),
        resource_schemas: resources
            .map(|(name, entry)| (name.clone(), to_wire_schema(entry.schema())))
            .collect(),
        data_source_schemas: data_sources
            .map(|(name, entry)| (name.clone(), to_wire_schema(entry.schema())))
            .collect(),
        functions: to_wire_functions(server),
        server_capabilities: Some(capabilities()),
        ..Response::default()
    })
}

pub(super) fn capabilities() -> wire::ServerCapabilities {
    wire::ServerCapabilities {
        plan_destroy: true,
        // Every request is answered from the process's own schema, asked for or not.
        get_provider_schema_optional: true,
        move_resource_state: true,
        generate_resource_config: false,
    }
}
