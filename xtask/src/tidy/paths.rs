//! The paths that a Rust file names, wherever they stand: in `use` trees, types, calls and macros.
//!
//! Read from tokens, not from text, so that comments and strings do not count, and not from the syntax
//! tree, so that paths inside macro calls do.

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A path of at least one name, resolved to start at `crate` where it was relative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// `["crate", "backends", "qemu"]`, `["tfplugin", "Attr"]`.
    pub(crate) segments: Vec<String>,
    /// Counted from 1.
    pub(crate) line: usize,
}

impl Named {
    /// Whether the path goes to or into what `prefix` names.
    pub(crate) fn is_in(&self, prefix: &[&str]) -> bool {
        self.segments.len() >= prefix.len() && self.segments.iter().zip(prefix).all(|(a, b)| a == b)
    }
}

/// All paths in a file whose module is `module` (`["crate", "domain"]`).
pub(crate) fn in_source(source: &str, module: &[String]) -> Result<Vec<Named>> {
    // Only `#` and `!` of a shebang line would stop the tokenizer; no source here has one.
    let tokens: TokenStream = source.parse().map_err(|error| anyhow!("not Rust tokens: {error}"))?;
    let mut found = Vec::new();
    walk(tokens, module, &[], &mut found);
    Ok(found)
}

/// Words that may stand right before a path that begins with `::`, and are no part of it.
const KEYWORDS: [&str; 10] = ["use", "impl", "for", "as", "dyn", "mut", "return", "in", "where", "pub"];

/// `prefix` is what stands before a brace in a `use` tree.
fn walk(tokens: TokenStream, module: &[String], prefix: &[String], found: &mut Vec<Named>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Ident(first) => {
                if first == "mod"
                    && let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
                        (tokens.get(at + 1), tokens.get(at + 2))
                {
                    let inner = [module, &[name.to_string()]].concat();
                    walk(body.stream(), &inner, &[], found);
                    at += 3;
                    continue;
                }
                if KEYWORDS.iter().any(|keyword| first == keyword) {
                    at += 1;
                    continue;
                }
                let line = first.span().start().line;
                let (mut segments, next) = path_at(&tokens, at);
                at = next;
                segments.splice(0..0, prefix.iter().cloned());
                if let Some(TokenTree::Group(group)) = tokens.get(at)
                    && opens_tree(&tokens, at, group.delimiter())
                {
                    walk(group.stream(), module, &segments, found);
                    at += 1;
                }
                found.push(Named { segments: resolve(segments, module), line });
            }
            TokenTree::Group(group) => {
                walk(group.stream(), module, &[], found);
                at += 1;
            }
            _ => at += 1,
        }
    }
}

/// The names joined by `::` from a place on, and the place after them.
fn path_at(tokens: &[TokenTree], mut at: usize) -> (Vec<String>, usize) {
    let mut segments = Vec::new();
    while let Some(TokenTree::Ident(name)) = tokens.get(at) {
        segments.push(name.to_string());
        at += 1;
        if !is_separator(tokens, at) {
            break;
        }
        at += 2;
    }
    (segments, at)
}

fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    colon(at) && colon(at + 1)
}

/// Whether the group at this place is the `{…}` of `a::{…}`.
fn opens_tree(tokens: &[TokenTree], at: usize, delimiter: Delimiter) -> bool {
    delimiter == Delimiter::Brace && at >= 2 && is_separator(tokens, at - 2)
}

fn resolve(segments: Vec<String>, module: &[String]) -> Vec<String> {
    let mut base = match segments.first().map(String::as_str) {
        Some("self" | "super") => module.to_vec(),
        _ => return segments,
    };
    let mut rest = segments.as_slice();
    while let Some((first, tail)) = rest.split_first() {
        match first.as_str() {
            "super" => drop(base.pop()),
            "self" => {}
            _ => break,
        }
        rest = tail;
    }
    base.extend_from_slice(rest);
    base
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(source: &str) -> Vec<String> {
        let module = ["crate", "backends", "qemu"].map(str::to_owned);
        in_source(source, &module).unwrap().into_iter().map(|named| named.segments.join("::")).collect()
    }

    #[test]
    fn every_way_to_name_a_path_is_seen() {
        for (source, path) in [
            ("use crate::domain::Image;", "crate::domain::Image"),
            ("use crate::{domain::{Image, names}, process};", "crate::domain::names"),
            ("use super::aws::Client;", "crate::backends::aws::Client"),
            ("use super::super::resources;", "crate::resources"),
            ("use self::store::Store;", "crate::backends::qemu::store::Store"),
            ("fn f(x: tfplugin::Attr<String>) {}", "tfplugin::Attr"),
            ("fn f() { vec![crate::resources::Image::new()] }", "crate::resources::Image::new"),
            ("mod tests { use super::store; }", "crate::backends::qemu::store"),
            ("#[derive(tfplugin::Model)] struct S;", "tfplugin::Model"),
            ("use ::reqwest::Client;", "reqwest::Client"),
        ] {
            assert!(paths(source).contains(&path.to_owned()), "{source}: {:?}", paths(source));
        }
    }

    #[test]
    fn comments_and_strings_name_nothing() {
        let source = "// crate::resources\n/* tfplugin::Attr */ const S: &str = \"crate::resources\";";
        assert!(!paths(source).iter().any(|path| path.contains("resources") || path.contains("tfplugin")));
    }
}
