//! Values in JSON: the form of stored state, and of defaults in documentation. What is read is bounded as in msgpack.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;
use serde_json::value::RawValue;

use super::types::MAX_VALUES;
use super::{Dynamic, Number, Type, Value};

/// JSON that is not a value of the expected type.
#[derive(Debug, thiserror::Error)]
#[error("the state's JSON cannot be read: {0}")]
pub struct JsonError(#[from] serde_json::Error);

/// Reads a value of type `ty`. Attributes that the type does not have are ignored, and those that the JSON
/// lacks are null. Nesting is bounded by the parser, at 128 levels.
///
/// # Errors
/// [`JsonError`] with the position of what is wrong.
pub fn decode(ty: &Type, json: &[u8]) -> Result<Value, JsonError> {
    read(Of(ty, &Left::default()), json)
}

/// Reads a value of whatever type it is: arrays become lists, objects become objects.
///
/// # Errors
/// [`JsonError`] with the position of what is wrong.
pub fn decode_untyped(json: &[u8]) -> Result<Value, JsonError> {
    read(Untyped(&Left::default()), json)
}

fn read<'de>(seed: impl DeserializeSeed<'de, Value = Value>, json: &'de [u8]) -> Result<Value, JsonError> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = seed.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Writes a value; unknown becomes null.
pub fn to_json(value: &Value) -> Json {
    match value.untyped() {
        Value::Null | Value::Unknown | Value::Dynamic(_) => Json::Null,
        Value::Bool(truth) => Json::Bool(*truth),
        Value::Number(number) => {
            let int = number.to_i64().map(Json::from).or_else(|| number.to_u64().map(Json::from));
            int.unwrap_or_else(|| Json::from(number.to_f64()))
        }
        Value::String(text) => Json::String(text.clone()),
        Value::List(elements) => Json::Array(elements.iter().map(to_json).collect()),
        Value::Object(entries) => {
            Json::Object(entries.iter().map(|(key, value)| (key.clone(), to_json(value))).collect())
        }
    }
}

/// How many more values there may be in all that is read.
struct Left(Cell<usize>);

impl Default for Left {
    fn default() -> Self {
        Self(Cell::new(MAX_VALUES))
    }
}

impl Left {
    fn take<E: serde::de::Error>(&self) -> Result<(), E> {
        let left = self.0.get().checked_sub(1);
        self.0.set(left.ok_or_else(|| E::custom(format!("it holds more than {MAX_VALUES} values")))?);
        Ok(())
    }
}

/// Reads a value of this type.
#[derive(Clone, Copy)]
struct Of<'t>(&'t Type, &'t Left);

impl<'t> Of<'t> {
    fn inner(self, ty: &'t Type) -> Self {
        Self(ty, self.1)
    }
}

impl<'de> DeserializeSeed<'de> for Of<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.1.take()?;
        match self.0 {
            Type::Number => number_or_null(deserializer),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Of<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0, f)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, truth: bool) -> Result<Value, E> {
        match self.0 {
            Type::Bool => Ok(Value::Bool(truth)),
            _ => Err(E::invalid_type(serde::de::Unexpected::Bool(truth), &self)),
        }
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        match self.0 {
            Type::String => Ok(Value::String(text.to_owned())),
            // Not shown: it may be a secret.
            _ => Err(E::invalid_type(serde::de::Unexpected::Other("a string"), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        match self.0 {
            Type::List(element) | Type::Set(element) => {
                while let Some(value) = seq.next_element_seed(self.inner(element))? {
                    elements.push(value);
                }
            }
            Type::Tuple(types) => {
                for ty in types {
                    let value = seq.next_element_seed(self.inner(ty))?;
                    elements.push(value.ok_or_else(|| A::Error::invalid_length(elements.len(), &self))?);
                }
            }
            _ => return Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self)),
        }
        Ok(Value::List(if matches!(self.0, Type::Set(_)) {
            super::types::sorted_set(elements)
        } else {
            elements
        }))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = BTreeMap::new();
        match self.0 {
            Type::Map(element) => {
                while let Some(key) = map.next_key::<String>()? {
                    entries.insert(key, map.next_value_seed(self.inner(element))?);
                }
            }
            Type::Object(attributes) => {
                entries.extend(attributes.keys().map(|name| (name.clone(), Value::Null)));
                while let Some(key) = map.next_key::<String>()? {
                    match attributes.get(&key) {
                        Some(ty) => drop(entries.insert(key, map.next_value_seed(self.inner(ty))?)),
                        None => drop(map.next_value::<serde::de::IgnoredAny>()?),
                    }
                }
            }
            Type::Dynamic => return visit_dynamic(map, self.1),
            _ => return Err(A::Error::invalid_type(serde::de::Unexpected::Map, &self)),
        }
        Ok(Value::Object(entries))
    }
}

/// `{"value": …, "type": …}`, in either order.
fn visit_dynamic<'de, A: MapAccess<'de>>(mut map: A, left: &Left) -> Result<Value, A::Error> {
    let (mut value, mut ty) = (None::<Box<RawValue>>, None::<Box<RawValue>>);
    while let Some(key) = map.next_key::<String>()? {
        match key.as_str() {
            "value" => value = Some(map.next_value()?),
            "type" => ty = Some(map.next_value()?),
            _ => drop(map.next_value::<serde::de::IgnoredAny>()?),
        }
    }
    let value = value.ok_or_else(|| A::Error::missing_field("value"))?;
    let ty = ty.ok_or_else(|| A::Error::missing_field("type"))?;
    let ty = Type::from_json_bytes(ty.get().as_bytes()).map_err(A::Error::custom)?;
    // A dynamic value inside a dynamic value would start the parser's bound on depth anew.
    if ty.contains_dynamic() {
        return if value.get() == "null" {
            Ok(Value::Null)
        } else {
            Err(A::Error::custom("a type within a type"))
        };
    }
    let value = read(Of(&ty, left), value.get().as_bytes()).map_err(A::Error::custom)?;
    Ok(Value::Dynamic(Box::new(Dynamic { ty, value })))
}

/// Numbers are read from their text, so that no digit is lost on the way through a float.
fn number_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    let raw: Box<RawValue> = serde::Deserialize::deserialize(deserializer)?;
    match raw.get() {
        "null" => Ok(Value::Null),
        text => match text.parse::<Number>() {
            Ok(number) => Ok(Value::Number(number)),
            Err(error) => Err(D::Error::custom(error)),
        },
    }
}

#[derive(Clone, Copy)]
struct Untyped<'l>(&'l Left);

impl<'de> DeserializeSeed<'de> for Untyped<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.0.take()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Untyped<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E>(self, int: i64) -> Result<Value, E> {
        Ok(Value::Number(int.into()))
    }

    fn visit_u64<E>(self, int: u64) -> Result<Value, E> {
        Ok(Value::Number(int.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, float: f64) -> Result<Value, E> {
        Number::from_f64(float).map(Value::Number).map_err(E::custom)
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(value) = seq.next_element_seed(self)? {
            elements.push(value);
        }
        Ok(Value::List(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            entries.insert(key, map.next_value_seed(self)?);
        }
        Ok(Value::Object(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Type, JSON, and how many values there are in it.
    #[test]
    fn values_are_counted_wherever_they_are() {
        let numbers = Type::list(Type::Number);
        let object = Type::object([("a", Type::Bool), ("b", Type::map(Type::String))]);
        let cases = [
            (Some(&Type::Bool), "true", 1),
            (Some(&numbers), "[1, null, 2.5]", 4),
            (Some(&object), r#"{"a": null, "b": {"x": "1", "y": "2"}, "gone": [1, 2, 3]}"#, 5),
            (Some(&Type::set(numbers.clone())), "[[1], [1], []]", 6),
            (Some(&Type::Tuple(vec![Type::Bool, numbers.clone()])), "[true, [1]]", 4),
            (Some(&Type::Dynamic), r#"{"value": [1, 2], "type": ["list", "number"]}"#, 4),
            (None, r#"{"a": [1, "x", {}], "b": null}"#, 6),
        ];
        for (ty, json, count) in cases {
            let read = |left: &Left| match ty {
                Some(ty) => read(Of(ty, left), json.as_bytes()),
                None => read(Untyped(left), json.as_bytes()),
            };
            let left = Left(Cell::new(count));
            read(&left).unwrap();
            assert_eq!(left.0.get(), 0, "{json}");
            let error = read(&Left(Cell::new(count - 1))).unwrap_err().to_string();
            assert!(error.contains("more than 4000000 values"), "{json}: {error}");
        }
    }
}
