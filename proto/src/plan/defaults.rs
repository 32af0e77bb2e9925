//! Puts defaults where the configuration is null.

use super::nested::for_each_object;
use crate::schema::{Attribute, AttributeType};
use crate::value::Value;

/// Sets defaults in a planned object, at every depth.
pub(super) fn apply(attributes: &[Attribute], config: &Value, planned: &mut Value) {
    let Value::Object(entries) = planned else { return };
    for attribute in attributes {
        let configured = config.get(attribute.name).unwrap_or(&Value::Null);
        let Some(planned) = entries.get_mut(attribute.name) else { continue };
        if configured.is_null() {
            if let Some(default) = &attribute.default {
                *planned = default.clone();
            }
            continue;
        }
        if let AttributeType::Nested { nesting, attributes } = &attribute.ty {
            for_each_object(*nesting, attributes, configured, &Value::Null, planned, |config, _, planned| {
                apply(attributes, config, planned);
            });
        }
    }
}
