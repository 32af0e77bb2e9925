//! Between the crate's own types and the messages.

use super::wire;
use crate::diag::{Diagnostic, Diagnostics, Severity};
use crate::path::{Path, Step};
use crate::schema::{Attribute, AttributeType, Nesting, Schema};
use crate::value::{Type, Value, json, msgpack};

/// Reads a value of type `ty`; nothing at all is null. `None` if `diags` tells what is wrong.
pub(super) fn from_wire_value(
    value: Option<wire::DynamicValue>,
    ty: &Type,
    diags: &mut Diagnostics,
) -> Option<Value> {
    let Some(value) = value else { return Some(Value::Null) };
    if !value.msgpack.is_empty() {
        let decoded = msgpack::decode(ty, &value.msgpack);
        decoded.map_err(|error| diags.push(unreadable(&error.to_string()).at(error.path))).ok()
    } else if !value.json.is_empty() {
        json::decode(ty, &value.json).map_err(|error| diags.push(unreadable(&error.to_string()))).ok()
    } else {
        Some(Value::Null)
    }
}

/// Something that the host sent and that cannot be.
pub(super) fn unreadable(problem: &str) -> Diagnostic {
    Diagnostic::error(
        "Unreadable request",
        format!("{problem}. This is a bug in the host or in the provider."),
    )
}

/// Writes a value that is of type `ty`.
pub(super) fn to_wire_value(ty: &Type, value: &Value) -> wire::DynamicValue {
    wire::DynamicValue { msgpack: msgpack::encode(ty, value).into(), json: bytes::Bytes::new() }
}

/// Writes a value that the provider made. `None` if it is not of type `ty`: `diags` tells.
pub(super) fn to_wire_checked(
    ty: &Type,
    value: Value,
    diags: &mut Diagnostics,
) -> Option<wire::DynamicValue> {
    match ty.conform(value) {
        Ok(value) => Some(to_wire_value(ty, &value)),
        Err(error) => {
            let text = format!("{error}. This is a bug in the provider; please report it.");
            diags.push(Diagnostic::error("Provider returned an invalid value", text));
            None
        }
    }
}

/// Hosts show the line of the outermost attribute only: what lies deeper is named in words.
fn detail(diagnostic: &Diagnostic) -> String {
    match &diagnostic.path {
        Some(path) if path.steps().len() > 1 => format!("{}\n\nAttribute: {path}", diagnostic.detail),
        _ => diagnostic.detail.clone(),
    }
}

pub(super) fn to_wire_diagnostic(diagnostic: &Diagnostic) -> wire::Diagnostic {
    let severity = match diagnostic.severity {
        Severity::Error => wire::diagnostic::Severity::Error,
        Severity::Warning => wire::diagnostic::Severity::Warning,
    };
    wire::Diagnostic {
        severity: severity.into(),
        summary: diagnostic.summary.clone(),
        detail: detail(diagnostic),
        attribute: diagnostic.path.as_ref().filter(|path| !path.is_root()).map(to_wire_path),
    }
}

pub(super) fn to_wire_path(path: &Path) -> wire::AttributePath {
    use wire::attribute_path::step::Selector;
    let steps = path.steps().iter().map(|step| {
        let selector = match step {
            Step::Attribute(name) => Selector::AttributeName(name.clone()),
            Step::Key(key) => Selector::ElementKeyString(key.clone()),
            Step::Index(index) => Selector::ElementKeyInt(*index),
        };
        wire::attribute_path::Step { selector: Some(selector) }
    });
    wire::AttributePath { steps: steps.collect() }
}

pub(super) fn to_wire_schema(schema: &Schema) -> wire::Schema {
    wire::Schema {
        version: schema.version,
        block: Some(wire::schema::Block {
            version: schema.version,
            attributes: schema.attributes.iter().map(to_wire_attribute).collect(),
            description: schema.description.to_string(),
            description_kind: wire::StringKind::Markdown.into(),
            ..Default::default()
        }),
    }
}

fn to_wire_attribute(attribute: &Attribute) -> wire::schema::Attribute {
    let (ty, nested_type) = match &attribute.ty {
        AttributeType::Simple(ty) => (ty.to_json_bytes(), None),
        AttributeType::Nested { nesting, attributes } => {
            (Vec::new(), Some(to_wire_object(*nesting, attributes)))
        }
    };
    wire::schema::Attribute {
        name: attribute.name.to_owned(),
        r#type: ty,
        nested_type,
        description: described(attribute),
        required: !attribute.kind.is_computed() && !attribute.kind.is_optional(),
        optional: attribute.kind.is_optional(),
        computed: attribute.kind.is_computed(),
        sensitive: attribute.sensitive,
        description_kind: wire::StringKind::Markdown.into(),
        deprecated: !attribute.deprecation.is_empty(),
        write_only: attribute.write_only,
        deprecation_message: attribute.deprecation.to_owned(),
    }
}

/// The protocol has no place for a default: whoever reads the schema sees it in the description alone.
fn described(attribute: &Attribute) -> String {
    match &attribute.default {
        Some(default) => format!("{} Default `{}`.", attribute.description, json::to_json(default)),
        None => attribute.description.to_string(),
    }
}

/// The bounds on how many there are, which hosts ignore, are left at zero.
fn to_wire_object(nesting: Nesting, attributes: &[Attribute]) -> wire::schema::Object {
    use wire::schema::object::NestingMode;
    let nesting = match nesting {
        Nesting::Single => NestingMode::Single,
        Nesting::List => NestingMode::List,
        Nesting::Set => NestingMode::Set,
        Nesting::Map => NestingMode::Map,
    };
    let attributes = attributes.iter().map(to_wire_attribute).collect();
    wire::schema::Object { attributes, nesting: nesting.into(), ..Default::default() }
}
