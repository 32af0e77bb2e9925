//! HCL2 as people write it.

use hcl_edit::expr::{Expression, ObjectKey, Traversal, TraversalOperator};
use hcl_edit::parser::{parse_body, parse_template};
use hcl_edit::structure::{Block, BlockLabel, Body, Structure};
use hcl_edit::template::{Element, Template};

use super::leaf::{Leaf, Piece, called};
use super::{Content, Syntax, Variable};

/// Reads a template.
pub(super) fn template(text: &str) -> Result<Content, Syntax> {
    let mut content = Content::default();
    for structure in &parse(text)? {
        match structure {
            Structure::Attribute(attribute) => {
                leaves(attribute.key.as_str(), &attribute.value, &mut content.leaves);
            }
            Structure::Block(block) => take(block, &mut content),
        }
    }
    Ok(content)
}

/// Reads a file of values.
pub(super) fn values(text: &str) -> Result<Vec<(String, Option<Leaf>)>, Syntax> {
    let body = parse(text)?;
    let value = |name: &str, value| (name.to_owned(), leaf(name, value));
    Ok(body.attributes().map(|it| value(it.key.as_str(), &it.value)).collect())
}

fn parse(text: &str) -> Result<Body, Syntax> {
    parse_body(text)
        .map_err(|error| Syntax { line: Some(error.location().line()), problem: error.message().to_owned() })
}

fn take(block: &Block, content: &mut Content) {
    let label = label(block);
    match (block.ident.as_str(), label) {
        ("variable", Some(name)) => {
            content.variables.insert(name, variable(&block.body));
        }
        ("variables", None) => {
            for attribute in block.body.attributes() {
                let is_text = !matches!(attribute.value, Expression::Array(_) | Expression::Object(_));
                let variable = Variable { is_text, is_required: false, default: plain(&attribute.value) };
                content.variables.insert(attribute.key.as_str().to_owned(), variable);
            }
        }
        ("locals", None) => {
            for attribute in block.body.attributes() {
                let name = attribute.key.as_str();
                content.locals.extend(leaf(name, &attribute.value).map(|leaf| (name.to_owned(), leaf)));
            }
        }
        ("local", Some(name)) => {
            let value = block.body.get_attribute("expression").and_then(|it| leaf(&name, &it.value));
            content.locals.extend(value.map(|leaf| (name, leaf)));
        }
        ("packer", None) => {
            content.requires_plugins |= block.body.has_blocks("required_plugins");
            return;
        }
        _ => {}
    }
    all_leaves(block, &mut content.leaves);
}

fn label(block: &Block) -> Option<String> {
    block.labels.first().map(|label| match label {
        BlockLabel::Ident(name) => name.as_str().to_owned(),
        BlockLabel::String(name) => name.value().clone(),
    })
}

fn variable(body: &Body) -> Variable {
    let default = body.get_attribute("default").map(|it| &it.value);
    let is_text = match body.get_attribute("type").map(|it| &it.value) {
        Some(Expression::Variable(name)) => is_scalar(name.as_str()),
        Some(Expression::String(name)) => is_scalar(name.as_str()),
        Some(_) => false,
        None => !matches!(default, Some(Expression::Array(_) | Expression::Object(_))),
    };
    Variable { is_text, is_required: default.is_none(), default: default.and_then(plain) }
}

/// Whether a value of this type is text as it stands.
pub(super) fn is_scalar(name: &str) -> bool {
    matches!(name, "string" | "number" | "bool" | "any")
}

fn all_leaves(block: &Block, out: &mut Vec<Leaf>) {
    let owner = label(block).unwrap_or_default();
    for structure in &block.body {
        match structure {
            Structure::Attribute(attribute) => {
                leaves(called(&owner, attribute.key.as_str()), &attribute.value, out);
            }
            Structure::Block(block) => all_leaves(block, out),
        }
    }
}

/// All texts of an expression.
fn leaves(key: &str, expr: &Expression, out: &mut Vec<Leaf>) {
    match expr {
        Expression::Array(items) => items.iter().for_each(|item| leaves(key, item, out)),
        Expression::Object(entries) => {
            for (name, value) in entries.iter() {
                let name = match name {
                    ObjectKey::Ident(name) => name.as_str(),
                    ObjectKey::Expression(name) => name.as_str().unwrap_or(key),
                };
                leaves(name, value.expr(), out);
            }
        }
        Expression::FuncCall(call) => call.args.iter().for_each(|arg| leaves(key, arg, out)),
        Expression::Parenthesis(inner) => leaves(key, inner.inner(), out),
        Expression::Conditional(it) => {
            [&it.true_expr, &it.false_expr].iter().for_each(|expr| leaves(key, expr, out));
        }
        Expression::ForExpr(it) => {
            [&it.intro.collection_expr, &it.value_expr].iter().for_each(|expr| leaves(key, expr, out));
        }
        other => out.extend(leaf(key, other)),
    }
}

/// The text that an expression is.
fn leaf(key: &str, expr: &Expression) -> Option<Leaf> {
    let pieces = match expr {
        Expression::StringTemplate(template) => template.iter().map(element).collect(),
        Expression::HeredocTemplate(heredoc) => elements(&heredoc.template),
        Expression::Traversal(traversal) => vec![reference(traversal)],
        Expression::Parenthesis(inner) => return leaf(key, inner.inner()),
        other => vec![Piece::Literal(plain(other)?)],
    };
    Some(Leaf { key: key.to_owned(), pieces })
}

fn elements(template: &Template) -> Vec<Piece> {
    template.iter().map(element).collect()
}

fn element(element: &Element) -> Piece {
    match element {
        Element::Literal(text) => Piece::Literal(text.value().clone()),
        Element::Interpolation(it) => match &it.expr {
            Expression::Traversal(traversal) => reference(traversal),
            other => plain(other).map_or(Piece::Unknown, Piece::Literal),
        },
        Element::Directive(_) => Piece::Unknown,
    }
}

/// The pieces of a text in HCL's template language, as JSON has it.
pub(super) fn pieces(text: &str) -> Vec<Piece> {
    if !text.contains("${") && !text.contains("%{") {
        return vec![Piece::Literal(text.to_owned())];
    }
    parse_template(text).map_or_else(|_| vec![Piece::Unknown], |template| elements(&template))
}

fn reference(traversal: &Traversal) -> Piece {
    let [only] = traversal.operators.as_slice() else { return Piece::Unknown };
    match (&traversal.expr, only.value()) {
        (Expression::Variable(root), TraversalOperator::GetAttr(name)) => {
            Piece::Reference(root.as_str().to_owned(), name.as_str().to_owned())
        }
        _ => Piece::Unknown,
    }
}

fn plain(expr: &Expression) -> Option<String> {
    match expr {
        Expression::String(text) => Some(text.value().clone()),
        Expression::Number(number) => Some(number.value().to_string()),
        Expression::Bool(value) => Some(value.value().to_string()),
        _ => None,
    }
}
