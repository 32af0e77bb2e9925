//! All services over one connection: hands each call to the one that its path names.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;

use super::control::{self, AlwaysHealthy, Controller, Silent};
use super::control::{GrpcControllerServer, GrpcStdioServer, HealthServer};
use crate::provider::Provider;
use crate::rpc::Server;
use crate::rpc::wire::provider_server::ProviderServer;

/// What gRPC messages may weigh, both ways; the hosts' own bound.
pub(super) const MAX_MESSAGE: usize = 256 << 20;

/// Everything that is served.
pub(super) struct Services<P> {
    provider: ProviderServer<Server<P>>,
    health: HealthServer<AlwaysHealthy>,
    stdio: GrpcStdioServer<Silent>,
    controller: GrpcControllerServer<Controller>,
}

impl<P: Provider> Services<P> {
    /// `ended` is what the host's Shutdown fires.
    pub(super) fn new(server: &Arc<Server<P>>, ended: &CancellationToken) -> Self {
        let provider = ProviderServer::from_arc(Arc::clone(server))
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        Self {
            provider,
            health: control::health(),
            stdio: control::stdio(),
            controller: control::controller(ended.clone()),
        }
    }
}

impl<P> Clone for Services<P> {
    fn clone(&self) -> Self {
        Self {
            provider: self.provider.clone(),
            health: self.health.clone(),
            stdio: self.stdio.clone(),
            controller: self.controller.clone(),
        }
    }
}

impl<P: Provider> Service<http::Request<Body>> for Services<P> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // As the generated services themselves: always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path();
        // `/package.Service/Method`
        match path.split('/').nth(1).unwrap_or_default() {
            <ProviderServer<Server<P>> as NamedService>::NAME => self.provider.call(request),
            <HealthServer<AlwaysHealthy> as NamedService>::NAME => self.health.call(request),
            <GrpcStdioServer<Silent> as NamedService>::NAME => self.stdio.call(request),
            <GrpcControllerServer<Controller> as NamedService>::NAME => self.controller.call(request),
            _ => Box::pin(std::future::ready(Ok(Status::unimplemented("no such service").into_http()))),
        }
    }
}
