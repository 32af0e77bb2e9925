//! The user's configuration as it is kept beside an object, so that an import can restore it.

use serde_json::Value as Json;
use tfplugin::value::json;
use tfplugin::{Diagnostic, Diagnostics, Kind, Model, Schema};

/// What the user asked for: all that is set, but for what only the provider sets.
pub(super) fn store<M: Model>(planned: &M) -> Json {
    let mut inputs = json::to_json(&planned.encode());
    if let Some(inputs) = inputs.as_object_mut() {
        let attributes = M::attributes();
        let computed = |name: &str| {
            attributes.iter().any(|attribute| attribute.name == name && attribute.kind == Kind::Computed)
        };
        inputs.retain(|name, value| !value.is_null() && !computed(name));
    }
    inputs
}

/// What was asked for when the object was made.
///
/// # Errors
/// When what is kept does not fit, such as after a change of the schema.
pub(super) fn restore<M: Model>(inputs: &Json) -> Result<M, Diagnostics> {
    let schema = Schema::of::<M>(0);
    let value = json::decode(schema.ty(), inputs.to_string().as_bytes()).map_err(|error| {
        let text = format!("The configuration that is kept with the object cannot be read: {error}.");
        Diagnostic::error("Object not imported", text)
    })?;
    tfplugin::model::decode(&value)
}

#[cfg(test)]
pub(in crate::resources) mod tests {
    use tfplugin::{Kind, Model, Value};

    /// The configuration with everything that is not set made unknown, as when it hangs on objects yet to be made.
    pub(in crate::resources) fn unset_as_unknown<M: Model>(config: &Value) -> Value {
        let Value::Object(mut entries) = unknown(config) else { return Value::Unknown };
        for attribute in M::attributes().iter().filter(|attribute| attribute.kind == Kind::Computed) {
            entries.insert(attribute.name.to_owned(), Value::Null);
        }
        Value::Object(entries)
    }

    fn unknown(value: &Value) -> Value {
        match value {
            Value::Null => Value::Unknown,
            Value::List(elements) => Value::List(elements.iter().map(unknown).collect()),
            Value::Object(entries) => {
                Value::Object(entries.iter().map(|(name, value)| (name.clone(), unknown(value))).collect())
            }
            known => known.clone(),
        }
    }
}
