//! JSON objects of a base and what is beside it.

use serde_json::Value;

/// All of `base`, and all of `more`, which wins.
pub fn merged(mut base: Value, more: Value) -> Value {
    if let (Some(all), Value::Object(more)) = (base.as_object_mut(), more) {
        all.extend(more);
    }
    base
}
