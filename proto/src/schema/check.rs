//! Walks over a value and its schema together: the checks on a configuration, and what must not be stored.

use super::{Attribute, AttributeType, Kind, Nesting};
use crate::diag::Diagnostics;
use crate::path::Path;
use crate::value::Value;

/// Checks a configuration against its schema, as far as it is known, and tells everything that is wrong.
pub fn check_config(
    attributes: &[Attribute],
    config: &Value,
    write_only_allowed: bool,
    diags: &mut Diagnostics,
) {
    let mut walk = Walk { write_only_allowed, diags };
    walk.object(attributes, config, &Path::root());
}

struct Walk<'a> {
    write_only_allowed: bool,
    diags: &'a mut Diagnostics,
}

impl Walk<'_> {
    fn object(&mut self, attributes: &[Attribute], object: &Value, path: &Path) {
        let Some(entries) = object.as_object() else { return };
        for attribute in attributes {
            let value = entries.get(attribute.name).unwrap_or(&Value::Null);
            self.attribute(attribute, value, &path.attr(attribute.name));
        }
    }

    fn attribute(&mut self, attribute: &Attribute, value: &Value, path: &Path) {
        if value.is_null() {
            if attribute.kind == Kind::Required {
                self.diags.error(path, "Missing attribute", format!("`{path}` must be set."));
            }
            return;
        }
        if attribute.kind == Kind::Computed {
            let text = format!("`{path}` is set by the provider; remove it from the configuration.");
            self.diags.error(path, "Read-only attribute", text);
        }
        if attribute.write_only && !self.write_only_allowed {
            let text = format!(
                "`{path}` is write-only, which this version of Terraform or OpenTofu does not support. \
                 Terraform 1.11 and OpenTofu 1.11 do."
            );
            self.diags.error(path, "Write-only attribute not supported", text);
        }
        if !attribute.deprecation.is_empty() {
            self.diags.warning(path, "Deprecated attribute", attribute.deprecation);
        }
        if value.is_unknown() {
            return;
        }
        for validator in &attribute.validators {
            if let Err(problem) = validator(value) {
                self.diags.error(path, "Invalid value", format!("`{}` {problem}.", attribute.name));
            }
        }
        if let AttributeType::Nested { nesting, attributes } = &attribute.ty {
            for (child, child_path) in nested_objects(*nesting, value, path) {
                self.object(attributes, child, &child_path);
            }
        }
    }
}

/// The objects of a nested attribute with their paths.
pub(crate) fn nested_objects<'v>(nesting: Nesting, value: &'v Value, path: &Path) -> Vec<(&'v Value, Path)> {
    match (nesting, value) {
        (Nesting::Single, object) => vec![(object, path.clone())],
        // The protocol has no path into a set.
        (Nesting::Set, Value::List(elements)) => {
            elements.iter().map(|element| (element, path.clone())).collect()
        }
        (Nesting::List, Value::List(elements)) => {
            elements.iter().enumerate().map(|(position, element)| (element, path.index(position))).collect()
        }
        (Nesting::Map, Value::Object(entries)) => {
            entries.iter().map(|(key, element)| (element, path.key(key))).collect()
        }
        _ => Vec::new(),
    }
}

/// Nulls every write-only attribute: such values must never be planned or stored.
pub(crate) fn write_only_to_null(attributes: &[Attribute], object: &mut Value) {
    let Value::Object(entries) = object else { return };
    for attribute in attributes {
        let Some(value) = entries.get_mut(attribute.name) else { continue };
        if attribute.write_only {
            *value = Value::Null;
        } else if let AttributeType::Nested { nesting, attributes } = &attribute.ty {
            match (nesting, value) {
                (Nesting::Single, object) => write_only_to_null(attributes, object),
                (Nesting::List | Nesting::Set, Value::List(elements)) => {
                    elements.iter_mut().for_each(|element| write_only_to_null(attributes, element));
                }
                (Nesting::Map, Value::Object(elements)) => {
                    elements.values_mut().for_each(|element| write_only_to_null(attributes, element));
                }
                _ => {}
            }
        }
    }
}
