//! The whole of what a provider offers as JSON: for generated documentation and for golden tests.

use serde_json::{Map, Value as Json, json};

use super::{Attribute, AttributeType, Kind, Nesting, Schema};
use crate::function::{Function, Parameter};
use crate::provider::Provider;
use crate::value::json::to_json;

/// Every schema and function signature of a provider. Types are in the hosts' notation.
pub fn provider_schema_json<P: Provider>(provider: &P) -> Json {
    let name = |short: &str| format!("{}_{short}", provider.type_name());
    let resources: Map<_, _> =
        provider.resources().iter().map(|it| (name(it.name()), schema_json(&it.schema()))).collect();
    let data_sources: Map<_, _> =
        provider.data_sources().iter().map(|it| (name(it.name()), schema_json(&it.schema()))).collect();
    let functions: Map<_, _> =
        provider.functions().iter().map(|it| (it.name().to_owned(), function_json(&**it))).collect();
    json!({
        "provider": schema_json(&Schema::of::<P::Config>(0)),
        "resources": resources,
        "data_sources": data_sources,
        "functions": functions,
    })
}

fn schema_json(schema: &Schema) -> Json {
    let mut json = Map::new();
    json.insert("version".into(), schema.version.into());
    json.insert("description".into(), schema.description.into());
    json.insert("attributes".into(), attributes_json(&schema.attributes));
    json.into()
}

fn attributes_json(attributes: &[Attribute]) -> Json {
    Json::Array(attributes.iter().map(attribute_json).collect())
}

fn attribute_json(attribute: &Attribute) -> Json {
    let mut json = Map::new();
    json.insert("name".into(), attribute.name.into());
    let kind = match attribute.kind {
        Kind::Required => "required",
        Kind::Optional => "optional",
        Kind::Computed => "computed",
        Kind::OptionalComputed => "optional, computed",
    };
    json.insert("kind".into(), kind.into());
    match &attribute.ty {
        AttributeType::Simple(ty) => {
            json.insert("type".into(), ty.to_json());
        }
        AttributeType::Nested { nesting, attributes } => {
            let nesting = match nesting {
                Nesting::Single => "single",
                Nesting::List => "list",
                Nesting::Set => "set",
                Nesting::Map => "map",
            };
            json.insert("nesting".into(), nesting.into());
            json.insert("attributes".into(), attributes_json(attributes));
        }
    }
    json.insert("description".into(), attribute.description.into());
    put_text(&mut json, "deprecation", attribute.deprecation);
    if let Some(default) = &attribute.default {
        json.insert("default".into(), to_json(default));
    }
    let flags = [
        ("sensitive", attribute.sensitive),
        ("write_only", attribute.write_only),
        ("requires_replace", attribute.requires_replace),
        ("keep_prior", attribute.keep_prior),
    ];
    json.extend(flags.into_iter().filter(|(_, set)| *set).map(|(flag, set)| (flag.to_owned(), set.into())));
    json.into()
}

fn function_json(function: &dyn Function) -> Json {
    let signature = function.signature();
    json!({
        "summary": signature.summary,
        "description": signature.description,
        "parameters": signature.parameters.iter().map(parameter_json).collect::<Vec<_>>(),
        "variadic": signature.variadic.as_ref().map(parameter_json),
        "returns": signature.returns.to_json(),
    })
}

fn parameter_json(parameter: &Parameter) -> Json {
    json!({
        "name": parameter.name,
        "type": parameter.ty.to_json(),
        "description": parameter.description,
        "allow_null": parameter.allow_null,
        "allow_unknown": parameter.allow_unknown,
    })
}

fn put_text(json: &mut Map<String, Json>, key: &str, text: &str) {
    if !text.is_empty() {
        json.insert(key.to_owned(), text.into());
    }
}
