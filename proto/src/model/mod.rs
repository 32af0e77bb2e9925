//! From a struct to a schema and back: `#[derive(Model)]` implements these traits.
//! Must not know the wire.

mod attr_type;

pub use attr_type::{AttrType, validate_known};
pub use tfplugin_derive::Model;

use crate::diag::{Diagnostic, Diagnostics};
use crate::path::Path;
use crate::schema::Attribute;
use crate::value::{Attr, Value};

/// An object whose schema, reading and writing follow from one struct.
///
/// Derived for structs whose fields are all [`Attr`]; see the macro of the same name.
pub trait Model: Sized {
    /// The attributes, in the order of the fields.
    fn attributes() -> Vec<Attribute>;

    /// What the object is, in Markdown: the struct's doc comment.
    fn description() -> &'static str;

    /// Reads the object, telling everything that is wrong with it; `None` if something is.
    fn decode(value: &Value, path: &Path, diags: &mut Diagnostics) -> Option<Self>;

    /// Writes the object.
    fn encode(&self) -> Value;
}

/// Reads one attribute of an object; what the derive calls for each field.
#[doc(hidden)]
pub fn decode_field<T: AttrType>(
    value: &Value,
    name: &str,
    path: &Path,
    diags: &mut Diagnostics,
) -> Option<Attr<T>> {
    T::decode_attr(value.get(name).unwrap_or(&Value::Null), &path.attr(name), diags)
}

/// Writes one attribute; what the derive calls for each field.
#[doc(hidden)]
pub fn encode_field<T: AttrType>(attr: &Attr<T>) -> Value {
    match attr {
        Attr::Null => Value::Null,
        Attr::Unknown => Value::Unknown,
        Attr::Known(value) => value.encode_known(),
    }
}

/// Tells whether a value is an object, for the derive.
#[doc(hidden)]
pub fn expect_object(value: &Value, path: &Path, diags: &mut Diagnostics) -> bool {
    let is_object = value.as_object().is_some();
    if !is_object {
        diags.push(wrong_type("an object", value, path));
    }
    is_object
}

/// Reads a whole object that came from the host or the engine.
///
/// # Errors
/// Everything that is wrong with it.
pub fn decode<M: Model>(value: &Value) -> Result<M, Diagnostics> {
    let mut diags = Diagnostics::new();
    match M::decode(value, &Path::root(), &mut diags) {
        Some(model) if !diags.has_errors() => Ok(model),
        _ => Err(diags),
    }
}

fn wrong_type(expected: &str, value: &Value, path: &Path) -> Diagnostic {
    Diagnostic::error("Wrong type", format!("`{path}` must be {expected}, but is {}.", value.kind())).at(path)
}
