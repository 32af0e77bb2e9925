//! The services that go-plugin asks of every plugin: health, output, and the end. The broker is not offered:
//! a provider needs one connection only.

use std::pin::Pin;

use tokio_stream::{Stream, pending};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// The messages and services of go-plugin.
#[allow(missing_docs, unreachable_pub, dead_code, clippy::all, clippy::too_many_lines)]
pub(super) mod plugin {
    tonic::include_proto!("plugin");
}

/// gRPC's own health service.
#[allow(missing_docs, unreachable_pub, dead_code, clippy::all, clippy::too_many_lines)]
pub(super) mod grpc_health {
    tonic::include_proto!("grpc.health.v1");
}

use grpc_health::health_check_response::ServingStatus;
use grpc_health::health_server::Health;
pub(super) use grpc_health::health_server::HealthServer;
use grpc_health::{HealthCheckRequest, HealthCheckResponse};
use plugin::grpc_controller_server::GrpcController;
pub(super) use plugin::grpc_controller_server::GrpcControllerServer;
use plugin::grpc_stdio_server::GrpcStdio;
pub(super) use plugin::grpc_stdio_server::GrpcStdioServer;

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub(super) fn health() -> HealthServer<AlwaysHealthy> {
    HealthServer::new(AlwaysHealthy)
}

pub(super) fn stdio() -> GrpcStdioServer<Silent> {
    GrpcStdioServer::new(Silent)
}

/// `ended` is what Shutdown fires.
pub(super) fn controller(ended: CancellationToken) -> GrpcControllerServer<Controller> {
    GrpcControllerServer::new(Controller { ended })
}

/// A process that answers is healthy.
pub(super) struct AlwaysHealthy;

fn status_of(service: &str) -> Result<HealthCheckResponse, Status> {
    match service {
        "" | "plugin" => Ok(HealthCheckResponse { status: ServingStatus::Serving.into() }),
        _ => Err(Status::not_found("there is no such service")),
    }
}

#[tonic::async_trait]
impl Health for AlwaysHealthy {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        status_of(&request.get_ref().service).map(Response::new)
    }

    type WatchStream = Streamed<HealthCheckResponse>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        use tokio_stream::StreamExt as _;
        let status = status_of(&request.get_ref().service)?;
        // It never changes; the stream stays open as the protocol wants.
        let stream = tokio_stream::once(Ok(status)).chain(pending());
        Ok(Response::new(Box::pin(stream)))
    }
}

/// Prints nothing, ever.
pub(super) struct Silent;

#[tonic::async_trait]
impl GrpcStdio for Silent {
    type StreamStdioStream = Streamed<plugin::StdioData>;

    async fn stream_stdio(&self, _: Request<()>) -> Result<Response<Self::StreamStdioStream>, Status> {
        // Hosts log an error for a stream that ends or is not there.
        Ok(Response::new(Box::pin(pending())))
    }
}

/// Ends the process when the host says so.
pub(super) struct Controller {
    ended: CancellationToken,
}

#[tonic::async_trait]
impl GrpcController for Controller {
    async fn shutdown(&self, _: Request<plugin::Empty>) -> Result<Response<plugin::Empty>, Status> {
        // The server finishes this reply before it ends.
        self.ended.cancel();
        Ok(Response::new(plugin::Empty {}))
    }
}
