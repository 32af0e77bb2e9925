//! The Terraform/OpenTofu plugin protocol, version 6: values, schemas, diagnostics, plans, and the server.
//!
//! A provider implements [`Provider`], [`Resource`], [`DataSource`] and [`Function`], with models that derive
//! [`Model`]. Knows nothing of what any provider manages.

// `#[derive(Model)]` names this crate, here too.
extern crate self as tfplugin;

pub mod data_source;
pub mod diag;
pub mod function;
pub mod model;
pub mod path;
pub mod plan;
pub mod provider;
pub mod resource;
mod rpc;
pub mod schema;
mod serve;
pub mod timeouts;
pub mod value;

pub use async_trait::async_trait;
pub use data_source::{DataSource, DynDataSource};
pub use diag::{Diagnostic, Diagnostics, Severity};
pub use function::{Function, FunctionError, FunctionSignature, Parameter};
pub use model::{AttrType, Model};
pub use path::{Path, Step};
pub use plan::{Draft, Plan};
pub use provider::Provider;
pub use resource::{
    CreateRequest, DeleteRequest, DynResource, MovedFrom, PlanRequest, ReadRequest, Resource, State,
    StateSink, UpdateRequest,
};
pub use schema::{Attribute, AttributeType, Kind, Nesting, Schema, provider_schema_json};
pub use serve::{ServeOptions, host_is_gone, serve};
pub use timeouts::{Operation, Timeouts, is_duration, parse_duration};
pub use tokio_util::sync::CancellationToken;
pub use value::{Attr, Number, Type, Value};
