//! The Rust types that an attribute may have.

use std::collections::{BTreeMap, BTreeSet};

use super::wrong_type;
use crate::diag::{Diagnostic, Diagnostics};
use crate::path::Path;
use crate::schema::{AttributeType, Nesting};
use crate::value::{Attr, Number, Type, Value};

/// A Rust type that stands for an attribute's value inside an [`Attr`].
///
/// Implemented for `bool`, `String`, integers, [`Value`] (of any type), derived models, and `Vec`, `BTreeSet` and
/// `BTreeMap<String, _>` of all these. A collection's element may be an [`Attr`] again; if it is not, one unknown element
/// makes the whole collection unknown.
pub trait AttrType: Sized {
    /// What the schema says of it.
    fn attribute_type() -> AttributeType;

    /// Reads a value that is neither null nor, as a whole, unknown. `None` if `diags` tells what is wrong.
    fn decode_known(value: &Value, path: &Path, diags: &mut Diagnostics) -> Option<Attr<Self>>;

    /// Writes the value.
    fn encode_known(&self) -> Value;

    /// Reads a value in any of its three states. `None` if `diags` tells what is wrong.
    fn decode_attr(value: &Value, path: &Path, diags: &mut Diagnostics) -> Option<Attr<Self>> {
        match value.untyped() {
            Value::Null => Some(Attr::Null),
            Value::Unknown => Some(Attr::Unknown),
            _ => Self::decode_known(value, path, diags),
        }
    }
}

/// Applies a check to a value if it can be read and is known; what the derive makes validators of.
///
/// # Errors
/// What `check` says. A value of the wrong type is told of where it is decoded.
pub fn validate_known<T: AttrType>(
    value: &Value,
    check: impl Fn(&T) -> Result<(), String>,
) -> Result<(), String> {
    match T::decode_attr(value, &Path::root(), &mut Diagnostics::new()) {
        Some(Attr::Known(known)) => check(&known),
        _ => Ok(()),
    }
}

macro_rules! scalar {
    ($rust:ty, $ty:expr, $expected:literal, $read:expr, $write:expr) => {
        impl AttrType for $rust {
            fn attribute_type() -> AttributeType {
                AttributeType::Simple($ty)
            }

            fn decode_known(value: &Value, path: &Path, diags: &mut Diagnostics) -> Option<Attr<Self>> {
                let read: fn(&Value) -> Option<$rust> = $read;
                match read(value) {
                    Some(known) => Some(Attr::Known(known)),
                    None => {
                        diags.push(wrong_type($expected, value, path));
                        None
                    }
                }
            }

            fn encode_known(&self) -> Value {
                let write: fn(&$rust) -> Value = $write;
                write(self)
            }
        }
    };
}

scalar!(bool, Type::Bool, "true or false", Value::as_bool, |truth| Value::Bool(*truth));
scalar!(String, Type::String, "a string", |value| value.as_str().map(str::to_owned), |text| {
    Value::String(text.clone())
});

macro_rules! integer {
    ($($int:ty),*) => {$(
        impl AttrType for $int {
            fn attribute_type() -> AttributeType {
                AttributeType::Simple(Type::Number)
            }

            fn decode_known(value: &Value, path: &Path, diags: &mut Diagnostics) -> Option<Attr<Self>> {
                let Some(number) = value.as_number() else {
                    diags.push(wrong_type("a number", value, path));
                    return None;
                };
                let signed = number.to_i64().and_then(|int| <$int>::try_from(int).ok());
                let int = signed.or_else(|| number.to_u64().and_then(|int| <$int>::try_from(int).ok()));
                if int.is_none() {
                    let (min, max) = (<$int>::MIN, <$int>::MAX);
                    let text = format!("`{path}` must be a whole number from {min} to {max}.");
                    diags.push(Diagnostic::error("Invalid number", text).at(path));
                }
                int.map(Attr::Known)
            }

            fn encode_known(&self) -> Value {
                Value::Number(Number::from(*self))
            }
        }
    )*};
}
integer!(i64, u64, u32, u16);

impl AttrType for Value {
    fn attribute_type() -> AttributeType {
        AttributeType::Simple(Type::Dynamic)
    }

    fn decode_known(value: &Value, _: &Path, _: &mut Diagnostics) -> Option<Attr<Self>> {
        Some(Attr::Known(value.clone()))
    }

    fn encode_known(&self) -> Value {
        self.clone()
    }
}

/// An element of a collection that may itself be null or unknown.
impl<T: AttrType> AttrType for Attr<T> {
    fn attribute_type() -> AttributeType {
        T::attribute_type()
    }

    fn decode_known(value: &Value, path: &Path, diags: &mut Diagnostics) -> Option<Attr<Self>> {
        T::decode_known(value, path, diags).map(Attr::Known)
    }

    fn encode_known(&self) -> Value {
        super::encode_field(self)
    }

    fn decode_attr(value: &Value, path: &Path, diags: &mut Diagnostics) -> Option<Attr<Self>> {
        T::decode_attr(value, path, diags).map(Attr::Known)
    }
}

/// Reads the elements of a collection: all of them, so that every mistake is told.
fn decode_elements<'v, T: AttrType>(
    elements: impl Iterator<Item = (Path, &'v Value)>,
    diags: &mut Diagnostics,
) -> Option<Attr<Vec<T>>> {
    let (mut known, mut unknown, mut wrong) = (Vec::new(), false, false);
    for (path, value) in elements {
        match T::decode_attr(value, &path, diags) {
            Some(Attr::Known(element)) => known.push(element),
            Some(Attr::Unknown) => unknown = true,
            Some(Attr::Null) => {
                wrong = true;
                diags.error(&path, "Null element", format!("`{path}` must not be null."));
            }
            None => wrong = true,
        }
    }
    match (wrong, unknown) {
        (true, _) => None,
        (false, true) => Some(Attr::Unknown),
        (false, false) => Some(Attr::Known(known)),
    }
}

fn list_elements<'v>(
    value: &'v Value,
    path: &Path,
    expected: &str,
    diags: &mut Diagnostics,
) -> Option<&'v [Value]> {
    let elements = value.as_list();
    if elements.is_none() {
        diags.push(wrong_type(expected, value, path));
    }
    elements
}

impl<T: AttrType> AttrType for Vec<T> {
    fn attribute_type() -> AttributeType {
        T::attribute_type().collected(Nesting::List)
    }

    fn decode_known(value: &Value, path: &Path, diags: &mut Diagnostics) -> Option<Attr<Self>> {
        let elements = list_elements(value, path, "a list", diags)?;
        decode_elements(elements.iter().enumerate().map(|(position, it)| (path.index(position), it)), diags)
    }

    fn encode_known(&self) -> Value {
        Value::List(self.iter().map(AttrType::encode_known).collect())
    }
}

impl<T: AttrType + Ord> AttrType for BTreeSet<T> {
    fn attribute_type() -> AttributeType {
        T::attribute_type().collected(Nesting::Set)
    }

    fn decode_known(value: &Value, path: &Path, diags: &mut Diagnostics) -> Option<Attr<Self>> {
        let elements = list_elements(value, path, "a set", diags)?;
        // The protocol has no path into a set.
        let elements = decode_elements(elements.iter().map(|it| (path.clone(), it)), diags)?;
        Some(elements.map(|elements| elements.into_iter().collect()))
    }

    fn encode_known(&self) -> Value {
        Value::List(self.iter().map(AttrType::encode_known).collect())
    }
}

impl<T: AttrType> AttrType for BTreeMap<String, T> {
    fn attribute_type() -> AttributeType {
        T::attribute_type().collected(Nesting::Map)
    }

    fn decode_known(value: &Value, path: &Path, diags: &mut Diagnostics) -> Option<Attr<Self>> {
        let Some(entries) = value.as_object() else {
            diags.push(wrong_type("a map", value, path));
            return None;
        };
        let elements = decode_elements(entries.iter().map(|(key, value)| (path.key(key), value)), diags)?;
        Some(elements.map(|elements| entries.keys().cloned().zip(elements).collect()))
    }

    fn encode_known(&self) -> Value {
        Value::Object(self.iter().map(|(key, value)| (key.clone(), value.encode_known())).collect())
    }
}
