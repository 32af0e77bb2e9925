//! The user interrupted: cancels what runs, and returns at once.

use tonic::{Response, Status};
use wire::stop_provider;

use super::{Server, wire};
use crate::provider::Provider;

// The generated trait wants a `Result` of its own error.
#[allow(clippy::unnecessary_wraps, clippy::result_large_err)]
pub(super) fn handle<P: Provider>(
    server: &Server<P>,
    _: stop_provider::Request,
) -> Result<Response<stop_provider::Response>, Status> {
    server.stop();
    Ok(Response::new(stop_provider::Response::default()))
}
