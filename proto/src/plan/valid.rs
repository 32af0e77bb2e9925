//! The host's rules on a plan, checked before the host does, so that a mistake of ours is told as such.

use super::PlanInput;
use crate::diag::Diagnostics;
use crate::path::Path;
use crate::schema::{Attribute, AttributeType, Nesting};
use crate::value::Value;

/// A plan may change only computed attributes that are null in the configuration, or keep what is stored.
pub(super) fn check(attributes: &[Attribute], input: &PlanInput, planned: &Value, diags: &mut Diagnostics) {
    object(attributes, &input.prior, &input.config, planned, &Path::root(), diags);
}

/// Tells of a bug in the provider.
pub(super) fn internal_error(diags: &mut Diagnostics, path: &Path, problem: &str) {
    let text = format!("{problem}. This is a bug in the provider; please report it.");
    diags.error(path, "Provider produced an invalid plan", text);
}

fn object(
    attributes: &[Attribute],
    prior: &Value,
    config: &Value,
    planned: &Value,
    path: &Path,
    diags: &mut Diagnostics,
) {
    for attribute in attributes {
        let of = |object: &Value| object.get(attribute.name).cloned().unwrap_or_default();
        value(attribute, &of(prior), &of(config), &of(planned), &path.attr(attribute.name), diags);
    }
}

fn value(
    attribute: &Attribute,
    prior: &Value,
    config: &Value,
    planned: &Value,
    path: &Path,
    diags: &mut Diagnostics,
) {
    let keeps_prior = planned == prior && !prior.is_null() && !config.is_null();
    let free = attribute.kind.is_computed() && (config.is_null() || !attribute.kind.is_optional());
    if planned == config || keeps_prior || free || (attribute.write_only && planned.is_null()) {
        return;
    }
    match &attribute.ty {
        AttributeType::Nested { nesting, attributes } if !config.is_null() && !config.is_unknown() => {
            nested(*nesting, attributes, prior, config, planned, path, diags);
        }
        _ => {
            internal_error(
                diags,
                path,
                &format!("`{path}` is planned with another value than is configured"),
            );
        }
    }
}

fn nested(
    nesting: Nesting,
    attributes: &[Attribute],
    prior: &Value,
    config: &Value,
    planned: &Value,
    path: &Path,
    diags: &mut Diagnostics,
) {
    let none = Value::Null;
    let other_elements = "holds other elements than are configured";
    match (nesting, config, planned) {
        (Nesting::Single, _, Value::Object(_)) => object(attributes, prior, config, planned, path, diags),
        (Nesting::List, Value::List(config), Value::List(planned)) if config.len() == planned.len() => {
            let prior = prior.as_list().unwrap_or_default();
            for (position, (config, planned)) in config.iter().zip(planned).enumerate() {
                let prior = prior.get(position).unwrap_or(&none);
                object(attributes, prior, config, planned, &path.index(position), diags);
            }
        }
        (Nesting::Map, Value::Object(config), Value::Object(planned)) if config.keys().eq(planned.keys()) => {
            for (key, planned) in planned {
                let prior = prior.get(key).unwrap_or(&none);
                object(attributes, prior, &config[key], planned, &path.key(key), diags);
            }
        }
        // Hosts cannot match the elements of a set either; they compare how many there are.
        (Nesting::Set, Value::List(config), Value::List(planned)) if config.len() == planned.len() => {}
        _ => internal_error(diags, path, &format!("`{path}` {other_elements}")),
    }
}
