//! The service that hosts call: one file per RPC that is offered. Turns messages into values, calls the
//! provider, and turns what comes back into messages; decides nothing about resources itself.

mod apply_resource_change;
mod call_function;
mod configure_provider;
mod convert;
mod get_functions;
mod get_metadata;
mod get_provider_schema;
mod import_resource_state;
mod move_resource_state;
mod plan_resource_change;
mod read_data_source;
mod read_resource;
mod registry;
mod reply;
mod service;
mod stop_provider;
mod upgrade_resource_state;
mod validate_data_resource_config;
mod validate_provider_config;
mod validate_resource_config;

/// The messages and services of tfplugin6.
#[allow(missing_docs, unreachable_pub, dead_code, clippy::all, clippy::too_many_lines)]
pub(crate) mod wire {
    tonic::include_proto!("tfplugin6");
}

#[cfg(test)]
mod descriptor_test;

pub(crate) use registry::Server;
