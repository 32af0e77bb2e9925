//! The names of what is offered, for hosts that want no schema yet.

use wire::get_metadata::{DataSourceMetadata, FunctionMetadata, Request, ResourceMetadata, Response};

use super::get_provider_schema::capabilities;
use super::{Server, wire};
use crate::diag::Diagnostics;
use crate::provider::Provider;

pub(super) async fn handle<P: Provider>(
    server: &Server<P>,
    _: Request,
    _: &mut Diagnostics,
) -> Option<Response> {
    Some(Response {
        server_capabilities: Some(capabilities()),
        data_sources: server
            .data_sources
            .keys()
            .map(|name| DataSourceMetadata { type_name: name.clone() })
            .collect(),
        resources: server.resources.keys().map(|name| ResourceMetadata { type_name: name.clone() }).collect(),
        functions: server.functions.keys().map(|name| FunctionMetadata { name: name.clone() }).collect(),
        ..Response::default()
    })
}
