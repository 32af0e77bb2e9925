//! Makes computed attributes unknown that the configuration leaves null.

use super::nested::for_each_object;
use crate::schema::{Attribute, AttributeType};
use crate::value::Value;

/// Marks what a change may compute anew, at every depth.
pub(super) fn mark(attributes: &[Attribute], config: &Value, prior: &Value, planned: &mut Value) {
    let Value::Object(entries) = planned else { return };
    for attribute in attributes {
        let configured = config.get(attribute.name).unwrap_or(&Value::Null);
        let prior = prior.get(attribute.name).unwrap_or(&Value::Null);
        let Some(planned) = entries.get_mut(attribute.name) else { continue };
        if configured.is_null() {
            let computed_anew = attribute.kind.is_computed() && attribute.default.is_none();
            // A null that is stored says nothing: the attribute may be newer than the object.
            let kept = attribute.keep_prior && !prior.is_null();
            if computed_anew && !kept {
                *planned = Value::Unknown;
            }
            continue;
        }
        if let AttributeType::Nested { nesting, attributes } = &attribute.ty {
            for_each_object(*nesting, attributes, configured, prior, planned, |config, prior, planned| {
                mark(attributes, config, prior, planned);
            });
        }
    }
}
