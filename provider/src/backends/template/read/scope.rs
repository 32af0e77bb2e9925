//! What references in a template stand for, as far as that is known without Packer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::go;
use super::leaf::{Leaf, Piece};

/// How far locals may refer to locals.
const DEEPEST: usize = 8;

/// Values, by what they are called in a template.
#[derive(Debug)]
pub(in crate::backends::template) struct Scope<'a> {
    /// The template's folder.
    pub(in crate::backends::template) root: PathBuf,
    /// Where Packer runs.
    pub(in crate::backends::template) directory: &'a Path,
    /// Variables whose value is known text.
    pub(in crate::backends::template) variables: BTreeMap<String, String>,
    /// Locals.
    pub(in crate::backends::template) locals: &'a BTreeMap<String, Leaf>,
}

/// A text with all its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::backends::template) struct Resolved {
    /// The text.
    pub(in crate::backends::template) text: String,
    /// Whether it begins with the template's or Packer's own folder, so that it is surely a path on this computer.
    pub(in crate::backends::template) anchored: bool,
}

impl Scope<'_> {
    /// The text; none when only Packer knows it.
    pub(in crate::backends::template) fn resolve(&self, leaf: &Leaf) -> Option<Resolved> {
        self.resolve_within(leaf, DEEPEST)
    }

    fn resolve_within(&self, leaf: &Leaf, depth: usize) -> Option<Resolved> {
        let mut whole = Resolved { text: String::new(), anchored: false };
        for piece in &leaf.pieces {
            let part = match piece {
                Piece::Literal(text) => Resolved { text: text.clone(), anchored: false },
                Piece::Reference(root, name) => self.refer(root, name, depth.checked_sub(1)?)?,
                Piece::Unknown => return None,
            };
            whole.anchored |= part.anchored && whole.text.is_empty();
            whole.text.push_str(&part.text);
        }
        go::expand(&whole.text, self)
            .map(|(text, anchored)| Resolved { text, anchored: anchored || whole.anchored })
    }

    fn refer(&self, root: &str, name: &str, depth: usize) -> Option<Resolved> {
        match (root, name) {
            ("path", "root") => self.folder(&self.root),
            ("path", "cwd") => self.folder(self.directory),
            ("var", name) => {
                self.variables.get(name).map(|text| Resolved { text: text.clone(), anchored: false })
            }
            ("local", name) => self.resolve_within(self.locals.get(name)?, depth),
            _ => None,
        }
    }

    fn folder(&self, path: &Path) -> Option<Resolved> {
        path.to_str().map(|text| Resolved { text: text.to_owned(), anchored: true })
    }
}
