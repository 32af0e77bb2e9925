//! Values in msgpack, as hosts send and take them. The type says how to read: the bytes alone do not.
//! Everything is bounded before anything is allocated: the bytes come from outside this process.

use std::collections::BTreeMap;

use rmp::Marker;
use rmp::encode::{
    RmpWrite, write_array_len, write_bin, write_bool, write_f64, write_map_len, write_nil, write_sint,
    write_str, write_uint,
};

use super::types::{MAX_DEPTH, MAX_VALUES};
use super::{Dynamic, Number, Type, Value};
use crate::path::Path;

/// Nothing that hosts say of an unknown value is longer.
const MAX_EXTENSION: usize = 1_024;

/// Bytes that are not a value of the expected type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the host sent a value that cannot be read, at `{path}`: {problem}")]
pub struct MsgpackError {
    /// Where.
    pub path: Path,
    /// What is wrong.
    pub problem: String,
}

/// Reads a value of type `ty` that takes up all of `bytes`.
///
/// # Errors
/// [`MsgpackError`]: bytes that are no msgpack, not of the type, or beyond the bounds.
pub fn decode(ty: &Type, bytes: &[u8]) -> Result<Value, MsgpackError> {
    let mut decoder = Decoder { rest: bytes, values: 0 };
    let value = decoder.value(ty, &Path::root(), 0)?;
    if decoder.rest.is_empty() {
        Ok(value)
    } else {
        Err(error(&Path::root(), "there are bytes after the value"))
    }
}

/// Writes a value of type `ty`, which it must have: see [`Type::conform`].
pub fn encode(ty: &Type, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    // Writing into memory cannot fail.
    let _: Result<(), _> = write(&mut out, ty, value);
    out
}

fn error(path: &Path, problem: impl Into<String>) -> MsgpackError {
    MsgpackError { path: path.clone(), problem: problem.into() }
}

struct Decoder<'b> {
    rest: &'b [u8],
    values: usize,
}

/// How a value begins.
enum Token<'b> {
    Nil,
    Extension,
    Bool(bool),
    Number(Number),
    Str(&'b str),
    Bin(&'b [u8]),
    Array(usize),
    Map(usize),
}

impl Token<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Self::Nil => "null",
            Self::Extension => "unknown",
            Self::Bool(_) => "a bool",
            Self::Number(_) => "a number",
            Self::Str(_) => "a string",
            Self::Bin(_) => "bytes",
            Self::Array(_) => "an array",
            Self::Map(_) => "a map",
        }
    }
}

impl<'b> Decoder<'b> {
    fn value(&mut self, ty: &Type, path: &Path, depth: usize) -> Result<Value, MsgpackError> {
        if depth > MAX_DEPTH {
            return Err(error(path, "it is nested too deeply"));
        }
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(error(path, format!("the message holds more than {MAX_VALUES} values")));
        }
        match (ty, self.token(path)?) {
            (_, Token::Nil) => Ok(Value::Null),
            (_, Token::Extension) => Ok(Value::Unknown),
            (Type::Bool, Token::Bool(truth)) => Ok(Value::Bool(truth)),
            (Type::Number, Token::Number(number)) => Ok(Value::Number(number)),
            (Type::Number, Token::Str(text)) => text
                .parse()
                .map(Value::Number)
                .map_err(|problem: super::NumberError| error(path, problem.to_string())),
            (Type::String, Token::Str(text)) => Ok(Value::String(text.to_owned())),
            (Type::List(element), Token::Array(len)) => self.elements(len, path, depth, |_| Some(element)),
            (Type::Set(element), Token::Array(len)) => {
                match self.elements(len, path, depth, |_| Some(element))? {
                    Value::List(elements) => Ok(Value::List(super::sorted_set(elements))),
                    other => Ok(other),
                }
            }
            (Type::Tuple(types), Token::Array(len)) if len == types.len() => {
                self.elements(len, path, depth, |position| types.get(position))
            }
            (Type::Map(element), Token::Map(len)) => self.map(len, element, path, depth),
            (Type::Object(attributes), Token::Map(len)) => self.object(len, attributes, path, depth),
            (Type::Dynamic, Token::Array(2)) => self.dynamic(path, depth),
            (ty, token) => Err(error(path, format!("expected {ty}, got {}", token.kind()))),
        }
    }

    fn elements<'t>(
        &mut self,
        len: usize,
        path: &Path,
        depth: usize,
        ty: impl Fn(usize) -> Option<&'t Type>,
    ) -> Result<Value, MsgpackError> {
        let mut elements = Vec::new();
        for position in 0..len {
            let path = path.index(position);
            let ty = ty(position).ok_or_else(|| error(&path, "there is no such element"))?;
            elements.push(self.value(ty, &path, depth + 1)?);
        }
        Ok(Value::List(elements))
    }

    fn map(&mut self, len: usize, element: &Type, path: &Path, depth: usize) -> Result<Value, MsgpackError> {
        let mut entries = BTreeMap::new();
        for _ in 0..len {
            let key = self.key(path)?;
            let value = self.value(element, &path.key(key), depth + 1)?;
            if entries.insert(key.to_owned(), value).is_some() {
                return Err(error(&path.key(key), "the key is there twice"));
            }
        }
        Ok(Value::Object(entries))
    }

    fn object(
        &mut self,
        len: usize,
        attributes: &BTreeMap<String, Type>,
        path: &Path,
        depth: usize,
    ) -> Result<Value, MsgpackError> {
        let mut entries = BTreeMap::new();
        for _ in 0..len {
            let key = self.key(path)?;
            let Some(ty) = attributes.get(key) else {
                return Err(error(path, format!("there is no attribute {:?}", shortened(key))));
            };
            let path = path.attr(key);
            let value = self.value(ty, &path, depth + 1)?;
            if entries.insert(key.to_owned(), value).is_some() {
                return Err(error(&path, "the attribute is there twice"));
            }
        }
        match attributes.keys().find(|name| !entries.contains_key(*name)) {
            Some(missing) => Err(error(&path.attr(missing), "the attribute is missing")),
            None => Ok(Value::Object(entries)),
        }
    }

    fn dynamic(&mut self, path: &Path, depth: usize) -> Result<Value, MsgpackError> {
        let json = match self.token(path)? {
            Token::Bin(bytes) => bytes,
            Token::Str(text) => text.as_bytes(),
            token => return Err(error(path, format!("expected a type, got {}", token.kind()))),
        };
        let ty = Type::from_json_bytes(json).map_err(|problem| error(path, problem.to_string()))?;
        let value = self.value(&ty, path, depth + 1)?;
        match value {
            // A dynamic value of dynamic type is the same with one wrapping less.
            Value::Dynamic(_) => Ok(value),
            value => Ok(Value::Dynamic(Box::new(Dynamic { ty, value }))),
        }
    }

    fn key(&mut self, path: &Path) -> Result<&'b str, MsgpackError> {
        match self.token(path)? {
            Token::Str(key) => Ok(key),
            token => Err(error(path, format!("expected a key, got {}", token.kind()))),
        }
    }

    fn token(&mut self, path: &Path) -> Result<Token<'b>, MsgpackError> {
        let [marker] = self.bytes(path)?;
        let number = |number: i64| Ok(Token::Number(number.into()));
        let float = |float: f64| match Number::from_f64_exact(float) {
            Ok(number) => Ok(Token::Number(number)),
            Err(problem) => Err(error(path, problem.to_string())),
        };
        match Marker::from_u8(marker) {
            Marker::Null => Ok(Token::Nil),
            Marker::True => Ok(Token::Bool(true)),
            Marker::False => Ok(Token::Bool(false)),
            Marker::FixPos(int) => number(int.into()),
            Marker::FixNeg(int) => number(int.into()),
            Marker::U8 => number(u8::from_be_bytes(self.bytes(path)?).into()),
            Marker::U16 => number(u16::from_be_bytes(self.bytes(path)?).into()),
            Marker::U32 => number(u32::from_be_bytes(self.bytes(path)?).into()),
            Marker::U64 => Ok(Token::Number(u64::from_be_bytes(self.bytes(path)?).into())),
            Marker::I8 => number(i8::from_be_bytes(self.bytes(path)?).into()),
            Marker::I16 => number(i16::from_be_bytes(self.bytes(path)?).into()),
            Marker::I32 => number(i32::from_be_bytes(self.bytes(path)?).into()),
            Marker::I64 => number(i64::from_be_bytes(self.bytes(path)?)),
            Marker::F32 => float(f32::from_be_bytes(self.bytes(path)?).into()),
            Marker::F64 => float(f64::from_be_bytes(self.bytes(path)?)),
            Marker::FixStr(len) => self.text(len.into(), path),
            Marker::Str8 | Marker::Str16 | Marker::Str32 => {
                let len = self.length(marker - Marker::Str8.to_u8(), path)?;
                self.text(len, path)
            }
            Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => {
                let len = self.length(marker - Marker::Bin8.to_u8(), path)?;
                self.take(len, path).map(Token::Bin)
            }
            Marker::FixArray(len) => self.counted(len.into(), path).map(Token::Array),
            Marker::Array16 | Marker::Array32 => {
                let len = self.length(marker - Marker::Array16.to_u8() + 1, path)?;
                self.counted(len, path).map(Token::Array)
            }
            Marker::FixMap(len) => self.counted(len.into(), path).map(Token::Map),
            Marker::Map16 | Marker::Map32 => {
                let len = self.length(marker - Marker::Map16.to_u8() + 1, path)?;
                self.counted(len, path).map(Token::Map)
            }
            Marker::FixExt1 => self.extension(1, path),
            Marker::FixExt2 => self.extension(2, path),
            Marker::FixExt4 => self.extension(4, path),
            Marker::FixExt8 => self.extension(8, path),
            Marker::FixExt16 => self.extension(16, path),
            Marker::Ext8 | Marker::Ext16 | Marker::Ext32 => {
                let len = self.length(marker - Marker::Ext8.to_u8(), path)?;
                self.extension(len, path)
            }
            Marker::Reserved => Err(error(path, "it is no msgpack")),
        }
    }

    /// A length in one, two or four bytes, for a `width` of 0, 1 or 2.
    fn length(&mut self, width: u8, path: &Path) -> Result<usize, MsgpackError> {
        let len = match width {
            0 => u8::from_be_bytes(self.bytes(path)?).into(),
            1 => u16::from_be_bytes(self.bytes(path)?).into(),
            _ => u32::from_be_bytes(self.bytes(path)?),
        };
        usize::try_from(len).map_err(|_| error(path, "it is too long"))
    }

    /// Every element takes a byte at least: a count beyond what is left is a lie.
    fn counted(&self, len: usize, path: &Path) -> Result<usize, MsgpackError> {
        if len > self.rest.len() {
            Err(error(path, "it claims more elements than there are bytes"))
        } else {
            Ok(len)
        }
    }

    fn extension(&mut self, len: usize, path: &Path) -> Result<Token<'b>, MsgpackError> {
        if len > MAX_EXTENSION {
            return Err(error(path, "it says too much of an unknown value"));
        }
        // What is said of an unknown value (its type code and refinements) plans nothing here.
        self.take(len + 1, path).map(|_| Token::Extension)
    }

    fn text(&mut self, len: usize, path: &Path) -> Result<Token<'b>, MsgpackError> {
        let bytes = self.take(len, path)?;
        std::str::from_utf8(bytes).map(Token::Str).map_err(|_| error(path, "the text is not UTF-8"))
    }

    fn bytes<const N: usize>(&mut self, path: &Path) -> Result<[u8; N], MsgpackError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(|| error(path, "it ends too early"))?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn take(&mut self, len: usize, path: &Path) -> Result<&'b [u8], MsgpackError> {
        let (bytes, rest) =
            self.rest.split_at_checked(len).ok_or_else(|| error(path, "it ends too early"))?;
        self.rest = rest;
        Ok(bytes)
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

type Written<W> = Result<(), rmp::encode::ValueWriteError<<W as RmpWrite>::Error>>;

fn write<W: RmpWrite>(out: &mut W, ty: &Type, value: &Value) -> Written<W> {
    let len = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    match (ty, value) {
        (_, Value::Null) => write_nil(out).map_err(rmp::encode::ValueWriteError::InvalidMarkerWrite),
        (_, Value::Unknown) => [0xd4, 0, 0]
            .into_iter()
            .try_for_each(|byte| out.write_u8(byte))
            .map_err(rmp::encode::ValueWriteError::InvalidDataWrite),
        (Type::Dynamic, Value::Dynamic(dynamic)) => write_dynamic(out, &dynamic.ty, &dynamic.value),
        (Type::Dynamic, value) => write_dynamic(out, &Type::of(value), value),
        (ty, Value::Dynamic(dynamic)) => write(out, ty, &dynamic.value),
        (_, Value::Bool(truth)) => {
            write_bool(out, *truth).map_err(rmp::encode::ValueWriteError::InvalidMarkerWrite)
        }
        (_, Value::Number(number)) => write_number(out, number),
        (_, Value::String(text)) => write_str(out, text),
        (ty, Value::List(elements)) => {
            write_array_len(out, len(elements.len()))?;
            elements
                .iter()
                .enumerate()
                .try_for_each(|(position, value)| write(out, element_type(ty, position), value))
        }
        (Type::Object(attributes), Value::Object(entries)) => {
            write_map_len(out, len(attributes.len()))?;
            attributes.iter().try_for_each(|(name, ty)| {
                write_str(out, name)?;
                write(out, ty, entries.get(name).unwrap_or(&Value::Null))
            })
        }
        (ty, Value::Object(entries)) => {
            write_map_len(out, len(entries.len()))?;
            entries.iter().try_for_each(|(key, value)| {
                write_str(out, key)?;
                write(out, element_type(ty, 0), value)
            })
        }
    }
}

fn element_type(ty: &Type, position: usize) -> &Type {
    match ty {
        Type::List(element) | Type::Set(element) | Type::Map(element) => element,
        Type::Tuple(types) => types.get(position).unwrap_or(&Type::Dynamic),
        _ => &Type::Dynamic,
    }
}

fn write_dynamic<W: RmpWrite>(out: &mut W, ty: &Type, value: &Value) -> Written<W> {
    write_array_len(out, 2)?;
    write_bin(out, &ty.to_json_bytes())?;
    write(out, ty, value)
}

/// The shortest form that loses nothing: an integer, a float of exactly this value, or decimal text.
fn write_number<W: RmpWrite>(out: &mut W, number: &Number) -> Written<W> {
    if let Some(int) = number.to_i64() {
        return write_sint(out, int).map(drop);
    }
    if let Some(int) = number.to_u64() {
        return write_uint(out, int).map(drop);
    }
    match number.to_exact_f64() {
        Some(float) => write_f64(out, float),
        None => write_str(out, &number.to_string()),
    }
}
