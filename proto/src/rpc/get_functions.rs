//! The signatures of the functions.

use std::collections::HashMap;

use wire::get_functions::{Request, Response};

use super::{Server, wire};
use crate::diag::Diagnostics;
use crate::function::{Function, Parameter};
use crate::provider::Provider;

pub(super) async fn handle<P: Provider>(
    server: &Server<P>,
    _: Request,
    _: &mut Diagnostics,
) -> Option<Response> {
    Some(Response { functions: to_wire_functions(server), ..Response::default() })
}

pub(super) fn to_wire_functions<P>(server: &Server<P>) -> HashMap<String, wire::Function> {
    server.functions.iter().map(|(name, function)| (name.clone(), to_wire_function(&**function))).collect()
}

fn to_wire_function(function: &dyn Function) -> wire::Function {
    let signature = function.signature();
    wire::Function {
        parameters: signature.parameters.iter().map(to_wire_parameter).collect(),
        variadic_parameter: signature.variadic.as_ref().map(to_wire_parameter),
        r#return: Some(wire::function::Return { r#type: signature.returns.to_json_bytes() }),
        summary: signature.summary,
        description: signature.description,
        description_kind: wire::StringKind::Markdown.into(),
        deprecation_message: String::new(),
    }
}

fn to_wire_parameter(parameter: &Parameter) -> wire::function::Parameter {
    wire::function::Parameter {
        name: parameter.name.clone(),
        r#type: parameter.ty.to_json_bytes(),
        allow_null_value: parameter.allow_null,
        allow_unknown_values: parameter.allow_unknown,
        description: parameter.description.clone(),
        description_kind: wire::StringKind::Markdown.into(),
    }
}
