//! A text in a template, with what stands in its place when Packer has evaluated it.

/// A text under some name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::backends::template) struct Leaf {
    /// The attribute that has it.
    pub(in crate::backends::template) key: String,
    /// Its parts, in order.
    pub(in crate::backends::template) pieces: Vec<Piece>,
}

/// What the files of the post-processor "artifice" are called here: they are written by what ran before it.
pub(in crate::backends::template) const ARTIFICE_FILES: &str = "artifice.files";

/// What an attribute is called as the key of a [`Leaf`]; `owner` is the block that has it.
pub(super) fn called<'a>(owner: &str, name: &'a str) -> &'a str {
    if owner == "artifice" && name == "files" { ARTIFICE_FILES } else { name }
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::backends::template) enum Piece {
    /// As it stands.
    Literal(String),
    /// `var.name`, `local.name`, `path.root`.
    Reference(String, String),
    /// What only Packer knows.
    Unknown,
}

impl Leaf {
    /// A text as it stands.
    pub(super) fn literal(key: &str, text: &str) -> Self {
        Self { key: key.to_owned(), pieces: vec![Piece::Literal(text.to_owned())] }
    }

    /// The text, when nothing in it has to be evaluated.
    pub(super) fn plain(&self) -> Option<String> {
        match self.pieces.as_slice() {
            [] => Some(String::new()),
            [Piece::Literal(text)] => Some(text.clone()),
            _ => None,
        }
    }
}
