//! Templates in JSON: HCL2 in JSON, and the older language.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::leaf::{Leaf, Piece, called};
use super::{Content, Syntax, Variable, hcl};

/// Reads a template of the older language.
pub(super) fn template(text: &str) -> Result<Content, Syntax> {
    let mut content = Content::default();
    for (key, value) in object(text)? {
        if let ("variables", Value::Object(variables)) = (key.as_str(), &value) {
            // The only language in which null is no default.
            let older = |value: &Value| Variable {
                is_text: true,
                is_required: value.is_null(),
                ..variable(Some(value))
            };
            content.variables.extend(variables.iter().map(|(name, value)| (name.clone(), older(value))));
        }
        leaves(&key, &value, &literal, &mut content.leaves);
    }
    Ok(content)
}

/// Reads HCL2 in JSON: a block is an object under its type and labels, or a list of such.
pub(super) fn hcl_template(text: &str) -> Result<Content, Syntax> {
    let mut content = Content::default();
    for (key, value) in object(text)? {
        for block in blocks(&value) {
            match key.as_str() {
                "variable" => {
                    content.variables.extend(labelled(block).map(|(name, body)| (name, declared(body))));
                }
                "variables" => content
                    .variables
                    .extend(block.iter().map(|(name, value)| (name.clone(), variable(Some(value))))),
                "locals" => content.locals.extend(
                    block
                        .iter()
                        .filter_map(|(name, value)| Some((name.clone(), hcl::pieces(value.as_str()?))))
                        .map(|(name, pieces)| (name.clone(), Leaf { key: name, pieces })),
                ),
                "packer" => content.requires_plugins |= block.contains_key("required_plugins"),
                _ => {}
            }
        }
        if key != "packer" {
            leaves(&key, &value, &hcl::pieces, &mut content.leaves);
        }
    }
    Ok(content)
}

/// Reads a file of values.
pub(super) fn values(text: &str) -> Result<Vec<(String, Option<Leaf>)>, Syntax> {
    let leaf = |key: &str, value: &Value| plain(value).map(|text| Leaf::literal(key, &text));
    Ok(object(text)?.into_iter().map(|(key, value)| (key.clone(), leaf(&key, &value))).collect())
}

fn object(text: &str) -> Result<Map<String, Value>, Syntax> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Syntax { line: Some(1), problem: "an object is expected: { … }".to_owned() }),
        Err(error) => Err(Syntax { line: Some(error.line()), problem: error.to_string() }),
    }
}

fn literal(text: &str) -> Vec<Piece> {
    vec![Piece::Literal(text.to_owned())]
}

/// A value's objects: itself, or those in the list.
fn blocks(value: &Value) -> impl Iterator<Item = &Map<String, Value>> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    value.as_object().into_iter().chain(list.iter().filter_map(Value::as_object))
}

fn labelled(block: &Map<String, Value>) -> impl Iterator<Item = (String, &Map<String, Value>)> {
    block.iter().flat_map(|(name, value)| blocks(value).map(move |body| (name.clone(), body)))
}

/// A variable of HCL2 in JSON.
fn declared(body: &Map<String, Value>) -> Variable {
    let variable = variable(body.get("default"));
    match body.get("type").and_then(Value::as_str) {
        Some(name) => Variable { is_text: hcl::is_scalar(name), ..variable },
        None => variable,
    }
}

fn variable(default: Option<&Value>) -> Variable {
    Variable {
        is_text: !matches!(default, Some(Value::Array(_) | Value::Object(_))),
        is_required: default.is_none(),
        default: default.and_then(plain),
    }
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

fn leaves(key: &str, value: &Value, pieces: &dyn Fn(&str) -> Vec<Piece>, out: &mut Vec<Leaf>) {
    match value {
        Value::String(text) => out.push(Leaf { key: key.to_owned(), pieces: pieces(text) }),
        Value::Array(items) => items.iter().for_each(|item| leaves(key, item, pieces, out)),
        Value::Object(entries) => {
            // By its type in the older language, below its type in HCL2.
            let owner = entries.get("type").and_then(Value::as_str).unwrap_or(key);
            let entries: BTreeMap<_, _> = entries.iter().collect();
            entries.into_iter().for_each(|(name, value)| leaves(called(owner, name), value, pieces, out));
        }
        _ => {}
    }
}
