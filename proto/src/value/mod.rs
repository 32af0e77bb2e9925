//! Values as the host sends them: null, unknown or known, with their types and two encodings.
//! Must not know schemas: what an attribute may be is said in `schema`.

mod attr;
#[cfg(test)]
mod codec_test;
pub mod json;
pub mod msgpack;
mod number;
mod types;

use std::collections::BTreeMap;

pub use attr::Attr;
pub use number::{Number, NumberError};
pub(crate) use types::sorted_set;
pub use types::{Type, TypeError};

use crate::path::{Path, Step};

/// A value of any type.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Not set.
    #[default]
    Null,
    /// Not known before apply.
    Unknown,
    /// `true` or `false`.
    Bool(bool),
    /// Any number.
    Number(Number),
    /// Text.
    String(String),
    /// A list, a tuple, or a set (then sorted, so that equal sets are equal values).
    List(Vec<Value>),
    /// A map or an object.
    Object(BTreeMap<String, Value>),
    /// The value of an attribute of type `dynamic`, with the type it travels with.
    Dynamic(Box<Dynamic>),
}

/// A value together with its own type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dynamic {
    /// Its type.
    pub ty: Type,
    /// The value itself.
    pub value: Value,
}

impl Value {
    /// An object of these attributes.
    pub fn object<K: Into<String>, V: Into<Value>>(entries: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::Object(entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }

    /// The value without the type that a `dynamic` attribute carries beside it.
    pub fn untyped(&self) -> &Value {
        match self {
            Self::Dynamic(dynamic) => dynamic.value.untyped(),
            other => other,
        }
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        matches!(self.untyped(), Self::Null)
    }

    /// Whether it, as a whole, is unknown.
    pub fn is_unknown(&self) -> bool {
        matches!(self.untyped(), Self::Unknown)
    }

    /// Whether neither it nor anything in it is unknown.
    pub fn is_wholly_known(&self) -> bool {
        match self.untyped() {
            Self::Unknown => false,
            Self::List(elements) => elements.iter().all(Self::is_wholly_known),
            Self::Object(entries) => entries.values().all(Self::is_wholly_known),
            _ => true,
        }
    }

    /// The text, if it is known text.
    pub fn as_str(&self) -> Option<&str> {
        match self.untyped() {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The truth value, if it is a known one.
    pub fn as_bool(&self) -> Option<bool> {
        match self.untyped() {
            Self::Bool(truth) => Some(*truth),
            _ => None,
        }
    }

    /// The number, if it is a known one.
    pub fn as_number(&self) -> Option<&Number> {
        match self.untyped() {
            Self::Number(number) => Some(number),
            _ => None,
        }
    }

    /// The elements of a known list, set or tuple.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self.untyped() {
            Self::List(elements) => Some(elements),
            _ => None,
        }
    }

    /// The entries of a known map or object.
    pub fn as_object(&self) -> Option<&BTreeMap<String, Value>> {
        match self.untyped() {
            Self::Object(entries) => Some(entries),
            _ => None,
        }
    }

    /// The attribute or map element `key` of a known object.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_object()?.get(key)
    }

    /// The value at `path`, if everything on the way is known and present.
    pub fn at(&self, path: &Path) -> Option<&Value> {
        path.steps().iter().try_fold(self, |value, step| match step {
            Step::Attribute(key) | Step::Key(key) => value.get(key),
            Step::Index(index) => value.as_list()?.get(usize::try_from(*index).ok()?),
        })
    }

    /// The place at `path`, to be written.
    pub(crate) fn at_mut(&mut self, path: &Path) -> Option<&mut Value> {
        path.steps().iter().try_fold(self, |value, step| match (step, value) {
            (Step::Attribute(key) | Step::Key(key), Self::Object(entries)) => entries.get_mut(key),
            (Step::Index(index), Self::List(elements)) => elements.get_mut(usize::try_from(*index).ok()?),
            _ => None,
        })
    }

    /// The same with null in place of everything unknown.
    #[must_use]
    pub(crate) fn unknown_to_null(self) -> Self {
        match self {
            Self::Unknown => Self::Null,
            Self::List(elements) => Self::List(elements.into_iter().map(Self::unknown_to_null).collect()),
            Self::Object(entries) => {
                Self::Object(entries.into_iter().map(|(key, value)| (key, value.unknown_to_null())).collect())
            }
            Self::Dynamic(dynamic) => {
                let Dynamic { ty, value } = *dynamic;
                Self::Dynamic(Box::new(Dynamic { ty, value: value.unknown_to_null() }))
            }
            other => other,
        }
    }

    /// What it is, for a message to the user.
    pub fn kind(&self) -> &'static str {
        match self.untyped() {
            Self::Null => "null",
            Self::Unknown => "unknown",
            Self::Bool(_) => "a bool",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::List(_) => "a list",
            Self::Object(_) | Self::Dynamic(_) => "an object",
        }
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<Number> for Value {
    fn from(number: Number) -> Self {
        Self::Number(number)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number.into())
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(elements: Vec<T>) -> Self {
        Self::List(elements.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Value>> From<BTreeMap<String, T>> for Value {
    fn from(entries: BTreeMap<String, T>) -> Self {
        Self::object(entries)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_by_path_and_stops_at_what_is_not_there() {
        let value = Value::object([("a", Value::List(vec![Value::object([("k", "v")]), Value::Unknown]))]);
        let a = Path::from("a");
        assert_eq!(value.at(&a.index(0).key("k")), Some(&Value::from("v")));
        assert_eq!(value.at(&a.index(1)), Some(&Value::Unknown));
        for missing in [a.index(2), a.index(1).key("k"), a.key("k"), Path::from("b")] {
            assert_eq!(value.at(&missing), None, "{missing}");
        }
    }

    #[test]
    fn unknown_is_found_at_any_depth() {
        let value = Value::object([("a", Value::List(vec![Value::from("x"), Value::Unknown]))]);
        assert!(!value.is_wholly_known());
        let nulled = value.unknown_to_null();
        assert!(nulled.is_wholly_known());
        assert_eq!(nulled.at(&Path::from("a").index(1)), Some(&Value::Null));
    }
}
