//! What references in a template stand for, as far as that is known without Packer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::go;
use super::leaf::{Leaf, Piece};

/// How many references are followed for one text: locals may refer to locals, each several times, and in circles.
const MOST: usize = 64;

/// What makes a path stand for any number of them.
pub(in crate::backends::template) const GLOB: [char; 3] = ['*', '?', '['];

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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::backends::template) struct Resolved {
    /// The text.
    pub(in crate::backends::template) text: String,
    /// Whether it begins with the template's or Packer's own folder, so that it is surely a path on this computer.
    pub(in crate::backends::template) anchored: bool,
}

impl Scope<'_> {
    /// The text; none when only Packer knows it.
    pub(in crate::backends::template) fn resolve(&self, leaf: &Leaf) -> Option<Resolved> {
        let (text, is_all) = self.known(leaf, &mut { MOST });
        is_all.then_some(text)
    }

    /// The folder of a path that only Packer knows, as far as it is known; empty where nothing of it is.
    pub(in crate::backends::template) fn folder_of(&self, leaf: &Leaf) -> Resolved {
        let (known, _) = self.known(leaf, &mut { MOST });
        let name = known.text.split(GLOB).next().unwrap_or_default();
        let text = name.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        Resolved { text, ..known }
    }

    /// The text up to what only Packer knows, and whether that is all of it.
    fn known(&self, leaf: &Leaf, left: &mut usize) -> (Resolved, bool) {
        let (mut whole, mut is_all) = (Resolved::default(), true);
        for piece in &leaf.pieces {
            let (part, is_known) = self.piece(piece, left);
            whole.anchored |= part.anchored && whole.text.is_empty();
            whole.text.push_str(&part.text);
            is_all &= is_known;
            if !is_known {
                break;
            }
        }
        let expanded = go::expand(&whole.text, self);
        let anchored = expanded.anchored || whole.anchored;
        (Resolved { text: expanded.text, anchored }, is_all && expanded.is_all)
    }

    fn piece(&self, piece: &Piece, left: &mut usize) -> (Resolved, bool) {
        let unknown = (Resolved::default(), false);
        match piece {
            Piece::Literal(text) => (Resolved { text: text.clone(), anchored: false }, true),
            Piece::Reference(root, name) => match left.checked_sub(1) {
                Some(fewer) => {
                    *left = fewer;
                    self.refer(root, name, left)
                }
                None => unknown,
            },
            Piece::Unknown => unknown,
        }
    }

    fn refer(&self, root: &str, name: &str, left: &mut usize) -> (Resolved, bool) {
        let text = |text: &str, anchored| (Resolved { text: text.to_owned(), anchored }, true);
        let found = match (root, name) {
            ("path", "root") => self.root.to_str().map(|path| text(path, true)),
            ("path", "cwd") => self.directory.to_str().map(|path| text(path, true)),
            ("var", name) => self.variables.get(name).map(|value| text(value, false)),
            ("local", name) => self.locals.get(name).map(|leaf| self.known(leaf, left)),
            _ => None,
        };
        found.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(names: &[&str]) -> Leaf {
        let pieces = names.iter().map(|name| match name.strip_prefix("local.") {
            Some(name) => Piece::Reference("local".into(), name.into()),
            None => Piece::Literal((*name).into()),
        });
        Leaf { pieces: pieces.collect(), ..Leaf::default() }
    }

    #[test]
    fn locals_stand_for_texts_but_in_circles_and_by_the_thousand() {
        let many = ["local.wide"; 20];
        let locals: BTreeMap<String, Leaf> = [
            ("empty", leaf(&[])),
            ("short", leaf(&["a/", "local.empty", "b"])),
            ("circle", leaf(&["local.circle"])),
            ("wide", leaf(&["local.empty"; 20])),
            ("wider", leaf(&many)),
        ]
        .into_iter()
        .map(|(name, leaf)| (name.to_owned(), leaf))
        .collect();
        let scope = Scope {
            root: "/template".into(),
            directory: Path::new("/work"),
            variables: BTreeMap::new(),
            locals: &locals,
        };
        for (name, expected) in [
            ("local.short", Some("a/b")),
            ("local.circle", None),
            ("local.wide", Some("")),
            ("local.wider", None),
        ] {
            let resolved = scope.resolve(&leaf(&[name]));
            assert_eq!(resolved.as_ref().map(|it| it.text.as_str()), expected, "{name}");
        }
    }
}
