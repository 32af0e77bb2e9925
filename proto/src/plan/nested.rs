//! Finds for each planned object of a nested attribute the configured and stored ones that belong to it.

use std::collections::BTreeMap;

use crate::schema::{Attribute, Nesting};
use crate::value::Value;

/// Calls `visit` with each planned object and its counterparts in `config` and `prior` (null if none).
///
/// Lists go by position and maps by key. The elements of a set have no name: a planned one belongs to the
/// first configured one that it could have come from, and keeps nothing from the stored ones unless the host
/// merged it already.
pub(super) fn for_each_object(
    nesting: Nesting,
    attributes: &[Attribute],
    config: &Value,
    prior: &Value,
    planned: &mut Value,
    mut visit: impl FnMut(&Value, &Value, &mut Value),
) {
    match (nesting, planned) {
        (Nesting::Single, planned) => visit(config, prior, planned),
        (Nesting::List, Value::List(elements)) => {
            for (position, element) in elements.iter_mut().enumerate() {
                visit(element_of(config, position), element_of(prior, position), element);
            }
        }
        (Nesting::Map, Value::Object(elements)) => {
            for (key, element) in elements.iter_mut() {
                visit(config.get(key).unwrap_or(&NULL), prior.get(key).unwrap_or(&NULL), element);
            }
        }
        (Nesting::Set, Value::List(elements)) => {
            let mut configured: Vec<&Value> = config.as_list().unwrap_or_default().iter().collect();
            for element in elements.iter_mut() {
                let origin =
                    configured.iter().position(|config| could_come_from(attributes, config, element));
                let config = origin.map_or(&NULL, |position| configured.remove(position));
                let prior = prior.as_list().unwrap_or_default().iter().find(|prior| *prior == element);
                visit(config, prior.unwrap_or(&NULL), element);
            }
            let sorted = crate::value::sorted_set(std::mem::take(elements));
            *elements = sorted;
        }
        _ => {}
    }
}

const NULL: Value = Value::Null;

fn element_of(list: &Value, position: usize) -> &Value {
    list.as_list().and_then(|elements| elements.get(position)).unwrap_or(&NULL)
}

/// Whether everything that `config` sets is the same in `planned`.
pub(super) fn could_come_from(attributes: &[Attribute], config: &Value, planned: &Value) -> bool {
    let (Some(config), Some(planned)) = (config.as_object(), planned.as_object()) else {
        return config == planned;
    };
    attributes.iter().all(|attribute| {
        let at = |object: &BTreeMap<String, Value>| object.get(attribute.name).cloned().unwrap_or_default();
        let configured = at(config);
        attribute.write_only
            || (configured.is_null() && attribute.kind.is_computed())
            || configured == at(planned)
            || matches!(attribute.ty, crate::schema::AttributeType::Nested { .. })
    })
}
