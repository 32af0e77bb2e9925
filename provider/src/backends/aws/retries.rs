//! What is tried again, and what is not, beside what the SDK knows.
//!
//! A launch for which EC2 has no room is not: it says so with HTTP status 500, which the SDK takes for a fault
//! that passes, and 25 attempts later the answer is the same. Status 429 is, whatever the words that come with it: a proxy has
//! its own.

use aws_sdk_ec2::config::interceptors::InterceptorContext;
use aws_sdk_ec2::config::retry::{ClassifyRetry, RetryAction};
use aws_sdk_ec2::error::ProvideErrorMetadata;
use aws_sdk_ec2::operation::run_instances::RunInstancesError;
use aws_sdk_ec2::operation::start_instances::StartInstancesError;

/// EC2's words for that.
const CODES: [&str; 4] = [
    "InsufficientInstanceCapacity",
    "InsufficientHostCapacity",
    "InsufficientReservedInstanceCapacity",
    "InsufficientCapacityOnHost",
];

/// Keeps the SDK from trying again.
#[derive(Debug)]
pub(super) struct NoCapacity;

impl ClassifyRetry for NoCapacity {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let error = match context.output_or_error() {
            Some(Err(error)) => error.as_operation_error(),
            _ => None,
        };
        let code = error.and_then(|error| {
            let run = error.downcast_ref::<RunInstancesError>().and_then(ProvideErrorMetadata::code);
            run.or_else(|| error.downcast_ref::<StartInstancesError>().and_then(ProvideErrorMetadata::code))
        });
        match code {
            Some(code) if CODES.contains(&code) => RetryAction::RetryForbidden,
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "no capacity"
    }
}

/// Has the SDK wait and try again.
#[derive(Debug)]
pub(super) struct Busy;

impl ClassifyRetry for Busy {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        match context.response().map(|response| response.status().as_u16()) {
            Some(429) => RetryAction::throttling_error(),
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "busy"
    }
}
