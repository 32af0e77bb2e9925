//! The service itself: hands each RPC to its file, and says of the others that they are not offered.

use std::pin::Pin;

use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::reply::reply;
use super::{Server, call_function, stop_provider, wire};
use crate::provider::Provider;

type Reply<T> = Result<Response<T>, Status>;
/// The type of streams that are never made.
type NoStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Hosts ask for these only of providers whose schema offers them.
fn not_offered<T>(rpc: &str) -> Reply<T> {
    Err(Status::unimplemented(format!("this provider does not offer {rpc}")))
}

#[tonic::async_trait]
impl<P: Provider> wire::provider_server::Provider for Server<P> {
    async fn get_metadata(
        &self,
        request: Request<wire::get_metadata::Request>,
    ) -> Reply<wire::get_metadata::Response> {
        reply!(get_metadata, self, request)
    }

    async fn get_provider_schema(
        &self,
        request: Request<wire::get_provider_schema::Request>,
    ) -> Reply<wire::get_provider_schema::Response> {
        reply!(get_provider_schema, self, request)
    }

    async fn validate_provider_config(
        &self,
        request: Request<wire::validate_provider_config::Request>,
    ) -> Reply<wire::validate_provider_config::Response> {
        reply!(validate_provider_config, self, request)
    }

    async fn configure_provider(
        &self,
        request: Request<wire::configure_provider::Request>,
    ) -> Reply<wire::configure_provider::Response> {
        reply!(configure_provider, self, request)
    }

    async fn validate_resource_config(
        &self,
        request: Request<wire::validate_resource_config::Request>,
    ) -> Reply<wire::validate_resource_config::Response> {
        reply!(validate_resource_config, self, request)
    }

    async fn upgrade_resource_state(
        &self,
        request: Request<wire::upgrade_resource_state::Request>,
    ) -> Reply<wire::upgrade_resource_state::Response> {
        reply!(upgrade_resource_state, self, request)
    }

    async fn read_resource(
        &self,
        request: Request<wire::read_resource::Request>,
    ) -> Reply<wire::read_resource::Response> {
        reply!(read_resource, self, request)
    }

    async fn plan_resource_change(
        &self,
        request: Request<wire::plan_resource_change::Request>,
    ) -> Reply<wire::plan_resource_change::Response> {
        reply!(plan_resource_change, self, request)
    }

    async fn apply_resource_change(
        &self,
        request: Request<wire::apply_resource_change::Request>,
    ) -> Reply<wire::apply_resource_change::Response> {
        reply!(apply_resource_change, self, request)
    }

    async fn import_resource_state(
        &self,
        request: Request<wire::import_resource_state::Request>,
    ) -> Reply<wire::import_resource_state::Response> {
        reply!(import_resource_state, self, request)
    }

    async fn move_resource_state(
        &self,
        request: Request<wire::move_resource_state::Request>,
    ) -> Reply<wire::move_resource_state::Response> {
        reply!(move_resource_state, self, request)
    }

    async fn validate_data_resource_config(
        &self,
        request: Request<wire::validate_data_resource_config::Request>,
    ) -> Reply<wire::validate_data_resource_config::Response> {
        reply!(validate_data_resource_config, self, request)
    }

    async fn read_data_source(
        &self,
        request: Request<wire::read_data_source::Request>,
    ) -> Reply<wire::read_data_source::Response> {
        reply!(read_data_source, self, request)
    }

    async fn get_functions(
        &self,
        request: Request<wire::get_functions::Request>,
    ) -> Reply<wire::get_functions::Response> {
        reply!(get_functions, self, request)
    }

    async fn call_function(
        &self,
        request: Request<wire::call_function::Request>,
    ) -> Reply<wire::call_function::Response> {
        call_function::handle(self, request.into_inner())
    }

    async fn stop_provider(
        &self,
        request: Request<wire::stop_provider::Request>,
    ) -> Reply<wire::stop_provider::Response> {
        stop_provider::handle(self, request.into_inner())
    }

    /// No resource has an identity yet.
    async fn get_resource_identity_schemas(
        &self,
        _: Request<wire::get_resource_identity_schemas::Request>,
    ) -> Reply<wire::get_resource_identity_schemas::Response> {
        Ok(Response::new(Default::default()))
    }

    async fn upgrade_resource_identity(
        &self,
        _: Request<wire::upgrade_resource_identity::Request>,
    ) -> Reply<wire::upgrade_resource_identity::Response> {
        not_offered("UpgradeResourceIdentity")
    }

    async fn generate_resource_config(
        &self,
        _: Request<wire::generate_resource_config::Request>,
    ) -> Reply<wire::generate_resource_config::Response> {
        not_offered("GenerateResourceConfig")
    }

    async fn validate_ephemeral_resource_config(
        &self,
        _: Request<wire::validate_ephemeral_resource_config::Request>,
    ) -> Reply<wire::validate_ephemeral_resource_config::Response> {
        not_offered("ValidateEphemeralResourceConfig")
    }

    async fn open_ephemeral_resource(
        &self,
        _: Request<wire::open_ephemeral_resource::Request>,
    ) -> Reply<wire::open_ephemeral_resource::Response> {
        not_offered("OpenEphemeralResource")
    }

    async fn renew_ephemeral_resource(
        &self,
        _: Request<wire::renew_ephemeral_resource::Request>,
    ) -> Reply<wire::renew_ephemeral_resource::Response> {
        not_offered("RenewEphemeralResource")
    }

    async fn close_ephemeral_resource(
        &self,
        _: Request<wire::close_ephemeral_resource::Request>,
    ) -> Reply<wire::close_ephemeral_resource::Response> {
        not_offered("CloseEphemeralResource")
    }

    async fn validate_list_resource_config(
        &self,
        _: Request<wire::validate_list_resource_config::Request>,
    ) -> Reply<wire::validate_list_resource_config::Response> {
        not_offered("ValidateListResourceConfig")
    }

    async fn configure_state_store(
        &self,
        _: Request<wire::configure_state_store::Request>,
    ) -> Reply<wire::configure_state_store::Response> {
        not_offered("ConfigureStateStore")
    }

    async fn lock_state(&self, _: Request<wire::lock_state::Request>) -> Reply<wire::lock_state::Response> {
        not_offered("LockState")
    }

    async fn unlock_state(
        &self,
        _: Request<wire::unlock_state::Request>,
    ) -> Reply<wire::unlock_state::Response> {
        not_offered("UnlockState")
    }

    async fn get_states(&self, _: Request<wire::get_states::Request>) -> Reply<wire::get_states::Response> {
        not_offered("GetStates")
    }

    async fn delete_state(
        &self,
        _: Request<wire::delete_state::Request>,
    ) -> Reply<wire::delete_state::Response> {
        not_offered("DeleteState")
    }

    async fn plan_action(
        &self,
        _: Request<wire::plan_action::Request>,
    ) -> Reply<wire::plan_action::Response> {
        not_offered("PlanAction")
    }

    async fn validate_action_config(
        &self,
        _: Request<wire::validate_action_config::Request>,
    ) -> Reply<wire::validate_action_config::Response> {
        not_offered("ValidateActionConfig")
    }

    async fn validate_state_store_config(
        &self,
        _: Request<wire::validate_state_store::Request>,
    ) -> Reply<wire::validate_state_store::Response> {
        not_offered("ValidateStateStoreConfig")
    }

    type ListResourceStream = NoStream<wire::list_resource::Event>;

    async fn list_resource(
        &self,
        _: Request<wire::list_resource::Request>,
    ) -> Reply<Self::ListResourceStream> {
        not_offered("ListResource")
    }

    type ReadStateBytesStream = NoStream<wire::read_state_bytes::Response>;

    async fn read_state_bytes(
        &self,
        _: Request<wire::read_state_bytes::Request>,
    ) -> Reply<Self::ReadStateBytesStream> {
        not_offered("ReadStateBytes")
    }

    async fn write_state_bytes(
        &self,
        _: Request<Streaming<wire::write_state_bytes::RequestChunk>>,
    ) -> Reply<wire::write_state_bytes::Response> {
        not_offered("WriteStateBytes")
    }

    type InvokeActionStream = NoStream<wire::invoke_action::Event>;

    async fn invoke_action(
        &self,
        _: Request<wire::invoke_action::Request>,
    ) -> Reply<Self::InvokeActionStream> {
        not_offered("InvokeAction")
    }
}
