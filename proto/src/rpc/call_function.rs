//! Calls a function. Errors are not diagnostics here: they may name an argument.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tonic::Status;
use wire::call_function::{Request, Response};

use super::convert::{from_wire_value, to_wire_checked};
use super::{Server, wire};
use crate::diag::Diagnostics;
use crate::function::{Function, FunctionError, FunctionSignature};
use crate::provider::Provider;
use crate::resource::panicked;
use crate::value::Value;

// The generated trait wants a `Result` of its own error.
#[allow(clippy::unnecessary_wraps, clippy::result_large_err)]
pub(super) fn handle<P: Provider>(
    server: &Server<P>,
    request: Request,
) -> Result<tonic::Response<Response>, Status> {
    let response = match call(server, request) {
        Ok(result) => Response { result: Some(result), error: None },
        Err(FunctionError { text, argument }) => {
            Response { result: None, error: Some(wire::FunctionError { text, function_argument: argument }) }
        }
    };
    Ok(tonic::Response::new(response))
}

fn call<P>(server: &Server<P>, request: Request) -> Result<wire::DynamicValue, FunctionError> {
    let Some(function) = server.functions.get(&request.name) else {
        let name: String = request.name.chars().take(200).collect();
        return Err(FunctionError::new(format!("This provider has no function `{name}`.")));
    };
    let run = || {
        let signature = function.signature();
        let arguments = arguments(&signature, request.arguments)?;
        result(&**function, &signature, arguments)
    };
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|panic| Err(FunctionError::new(panicked(&*panic).detail)))
}

fn arguments(
    signature: &FunctionSignature,
    arguments: Vec<wire::DynamicValue>,
) -> Result<Vec<Value>, FunctionError> {
    let given = arguments.len();
    let wanted = signature.parameters.len();
    if given < wanted || (given > wanted && signature.variadic.is_none()) {
        return Err(FunctionError::new(format!("The function takes {wanted} arguments, not {given}.")));
    }
    let parameters =
        signature.parameters.iter().chain(std::iter::repeat_n(&signature.variadic, given).flatten());
    let read =
        |(argument, (parameter, position)): (wire::DynamicValue, (&crate::function::Parameter, i64))| {
            let mut diags = Diagnostics::new();
            from_wire_value(Some(argument), &parameter.ty, &mut diags)
                .ok_or_else(|| FunctionError::argument(position, diags.to_string()))
        };
    arguments.into_iter().zip(parameters.zip(0..)).map(read).collect()
}

fn result(
    function: &dyn Function,
    signature: &FunctionSignature,
    arguments: Vec<Value>,
) -> Result<wire::DynamicValue, FunctionError> {
    let result = function.call(arguments)?;
    let mut diags = Diagnostics::new();
    to_wire_checked(&signature.returns, result, &mut diags)
        .ok_or_else(|| FunctionError::new(diags.to_string()))
}
