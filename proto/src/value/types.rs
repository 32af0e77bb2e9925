//! The types that hosts know, and their JSON notation: `"string"`, `["list","string"]`.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value as Json;

use super::{Dynamic, Value};
use crate::path::Path;

/// Deeper types than this are refused: no schema has them, and recursion needs a bound.
pub(crate) const MAX_DEPTH: usize = 64;
/// More values than this in one message are refused: each costs far more memory than its one byte.
pub(crate) const MAX_VALUES: usize = 4_000_000;
/// A longer notation is refused, for the same reason.
const MAX_NOTATION: usize = 16 << 20;

/// The type of a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Type {
    /// `true` or `false`.
    Bool,
    /// Any number.
    Number,
    /// Text.
    String,
    /// Any type; the value carries its own.
    Dynamic,
    /// Ordered elements of one type.
    List(Box<Type>),
    /// Distinct elements of one type, without an order.
    Set(Box<Type>),
    /// Elements of one type by name.
    Map(Box<Type>),
    /// Named attributes, each with a type of its own.
    Object(BTreeMap<String, Type>),
    /// A fixed number of elements, each with a type of its own.
    Tuple(Vec<Type>),
}

/// A type that cannot be read, or a value that is not of its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TypeError {
    /// The JSON is not a type.
    #[error("not a type: {0}")]
    Syntax(String),
    /// The type is nested too deeply.
    #[error("the type is nested more than {MAX_DEPTH} levels deep")]
    TooDeep,
    /// The notation is too long.
    #[error("the type takes more than {MAX_NOTATION} bytes to write down")]
    TooLong,
    /// The value is of another type.
    #[error("{path}: expected {expected}, got {got}")]
    Mismatch {
        /// Where.
        path: Path,
        /// The type that was asked for.
        expected: String,
        /// What was there.
        got: String,
    },
}

impl Type {
    /// A list of `element`.
    pub fn list(element: Type) -> Self {
        Self::List(Box::new(element))
    }

    /// A set of `element`.
    pub fn set(element: Type) -> Self {
        Self::Set(Box::new(element))
    }

    /// A map of `element`.
    pub fn map(element: Type) -> Self {
        Self::Map(Box::new(element))
    }

    /// An object of these attributes.
    pub fn object<K: Into<String>>(attributes: impl IntoIterator<Item = (K, Type)>) -> Self {
        Self::Object(attributes.into_iter().map(|(name, ty)| (name.into(), ty)).collect())
    }

    /// The JSON notation.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Bool => "bool".into(),
            Self::Number => "number".into(),
            Self::String => "string".into(),
            Self::Dynamic => "dynamic".into(),
            Self::List(element) => Json::Array(vec!["list".into(), element.to_json()]),
            Self::Set(element) => Json::Array(vec!["set".into(), element.to_json()]),
            Self::Map(element) => Json::Array(vec!["map".into(), element.to_json()]),
            Self::Object(attributes) => {
                let attributes = attributes.iter().map(|(name, ty)| (name.clone(), ty.to_json())).collect();
                Json::Array(vec!["object".into(), Json::Object(attributes)])
            }
            Self::Tuple(elements) => {
                Json::Array(vec!["tuple".into(), Json::Array(elements.iter().map(Self::to_json).collect())])
            }
        }
    }

    /// The JSON notation as bytes, as it travels in schemas and with dynamic values.
    pub fn to_json_bytes(&self) -> Vec<u8> {
        self.to_json().to_string().into_bytes()
    }

    /// Reads the JSON notation.
    ///
    /// # Errors
    /// [`TypeError::Syntax`], [`TypeError::TooDeep`] and [`TypeError::TooLong`].
    pub fn from_json_bytes(bytes: &[u8]) -> Result<Self, TypeError> {
        if bytes.len() > MAX_NOTATION {
            return Err(TypeError::TooLong);
        }
        let json = serde_json::from_slice(bytes).map_err(|error| TypeError::Syntax(error.to_string()))?;
        Self::from_json(&json, 0)
    }

    fn from_json(json: &Json, depth: usize) -> Result<Self, TypeError> {
        if depth > MAX_DEPTH {
            return Err(TypeError::TooDeep);
        }
        let inner = |json: &Json| Self::from_json(json, depth + 1);
        let unknown = || TypeError::Syntax(shortened(json));
        match json {
            Json::String(name) => match name.as_str() {
                "bool" => Ok(Self::Bool),
                "number" => Ok(Self::Number),
                "string" => Ok(Self::String),
                "dynamic" => Ok(Self::Dynamic),
                _ => Err(unknown()),
            },
            // The third part of an object type lists optional attributes; values always carry them all.
            Json::Array(parts) => match (parts.first().and_then(Json::as_str), parts.get(1)) {
                (Some("list"), Some(element)) => Ok(Self::list(inner(element)?)),
                (Some("set"), Some(element)) => Ok(Self::set(inner(element)?)),
                (Some("map"), Some(element)) => Ok(Self::map(inner(element)?)),
                (Some("object"), Some(Json::Object(attributes))) => attributes
                    .iter()
                    .map(|(name, ty)| Ok((name.clone(), inner(ty)?)))
                    .collect::<Result<_, _>>()
                    .map(Self::Object),
                (Some("tuple"), Some(Json::Array(elements))) => {
                    elements.iter().map(inner).collect::<Result<_, _>>().map(Self::Tuple)
                }
                _ => Err(unknown()),
            },
            _ => Err(unknown()),
        }
    }

    /// Whether a value of this type carries another type somewhere inside.
    pub(crate) fn contains_dynamic(&self) -> bool {
        match self {
            Self::Dynamic => true,
            Self::Bool | Self::Number | Self::String => false,
            Self::List(element) | Self::Set(element) | Self::Map(element) => element.contains_dynamic(),
            Self::Object(attributes) => attributes.values().any(Self::contains_dynamic),
            Self::Tuple(elements) => elements.iter().any(Self::contains_dynamic),
        }
    }

    /// The type that a value has by itself: lists are tuples, objects are objects.
    pub fn of(value: &Value) -> Self {
        match value {
            Value::Null | Value::Unknown => Self::Dynamic,
            Value::Bool(_) => Self::Bool,
            Value::Number(_) => Self::Number,
            Value::String(_) => Self::String,
            Value::List(elements) => Self::Tuple(elements.iter().map(Self::of).collect()),
            Value::Object(entries) => Self::object(entries.iter().map(|(key, value)| (key, Self::of(value)))),
            Value::Dynamic(dynamic) => dynamic.ty.clone(),
        }
    }

    /// Brings a value into the one form that values of this type have: objects carry every attribute
    /// (absent ones as null, superfluous ones dropped), sets are sorted and free of duplicates.
    ///
    /// # Errors
    /// [`TypeError::Mismatch`] with the path of what is of another type.
    pub fn conform(&self, value: Value) -> Result<Value, TypeError> {
        self.conform_at(value, &Path::root())
    }

    fn conform_at(&self, value: Value, path: &Path) -> Result<Value, TypeError> {
        let value = match (self, value) {
            (Self::Dynamic, value) => return Ok(into_dynamic(value)),
            (_, Value::Dynamic(dynamic)) => dynamic.value,
            (_, value) => value,
        };
        match (self, value) {
            (_, value @ (Value::Null | Value::Unknown))
            | (Self::Bool, value @ Value::Bool(_))
            | (Self::Number, value @ Value::Number(_))
            | (Self::String, value @ Value::String(_)) => Ok(value),
            (Self::List(element), Value::List(elements)) => {
                conform_elements(elements, path, |_| element).map(Value::List)
            }
            (Self::Set(element), Value::List(elements)) => conform_elements(elements, path, |_| element)
                .map(|elements| Value::List(sorted_set(elements))),
            (Self::Tuple(types), Value::List(elements)) if types.len() == elements.len() => {
                conform_elements(elements, path, |position| &types[position]).map(Value::List)
            }
            (Self::Map(element), Value::Object(entries)) => entries
                .into_iter()
                .map(|(key, value)| Ok((key.clone(), element.conform_at(value, &path.key(key))?)))
                .collect::<Result<_, _>>()
                .map(Value::Object),
            (Self::Object(attributes), Value::Object(mut entries)) => attributes
                .iter()
                .map(|(name, ty)| {
                    let value = entries.remove(name).unwrap_or_default();
                    Ok((name.clone(), ty.conform_at(value, &path.attr(name))?))
                })
                .collect::<Result<_, _>>()
                .map(Value::Object),
            (_, value) => Err(TypeError::Mismatch {
                path: path.clone(),
                expected: self.to_string(),
                got: value.kind().to_owned(),
            }),
        }
    }
}

fn conform_elements<'a>(
    elements: Vec<Value>,
    path: &Path,
    ty: impl Fn(usize) -> &'a Type,
) -> Result<Vec<Value>, TypeError> {
    let conform = |(position, value)| ty(position).conform_at(value, &path.index(position));
    elements.into_iter().enumerate().map(conform).collect()
}

/// Two unknown elements may yet become different ones: only known duplicates are dropped.
pub(crate) fn sorted_set(mut elements: Vec<Value>) -> Vec<Value> {
    elements.sort();
    elements.dedup_by(|left, right| left == right && left.is_wholly_known());
    elements
}

fn into_dynamic(value: Value) -> Value {
    match value {
        Value::Null | Value::Unknown | Value::Dynamic(_) => value,
        value => Value::Dynamic(Box::new(Dynamic { ty: Type::of(&value), value })),
    }
}

fn shortened(json: &Json) -> String {
    json.to_string().chars().take(80).collect()
}

impl fmt::Display for Type {
    /// As one writes it in HCL: `list(string)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("bool"),
            Self::Number => f.write_str("number"),
            Self::String => f.write_str("string"),
            Self::Dynamic => f.write_str("any"),
            Self::List(element) => write!(f, "list({element})"),
            Self::Set(element) => write!(f, "set({element})"),
            Self::Map(element) => write!(f, "map({element})"),
            Self::Object(_) => f.write_str("object"),
            Self::Tuple(elements) => write!(f, "tuple of {}", elements.len()),
        }
    }
}
