//! Where in a value something is: a path of attribute names, map keys and list indexes.
//! Knows nothing of schemas: it does not check that what it names exists.

use std::fmt;

/// One step of a [`Path`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// An attribute of an object.
    Attribute(String),
    /// An element of a map.
    Key(String),
    /// An element of a list, by its number from zero.
    Index(i64),
}

/// The place of a value inside an object, shown as one writes it in HCL: `ports["web"].host`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Vec<Step>);

impl Path {
    /// The object itself.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// This path and then the attribute `name`.
    #[must_use]
    pub fn attr(&self, name: impl Into<String>) -> Self {
        self.then(Step::Attribute(name.into()))
    }

    /// This path and then the map element `key`.
    #[must_use]
    pub fn key(&self, key: impl Into<String>) -> Self {
        self.then(Step::Key(key.into()))
    }

    /// This path and then the list element number `index`.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.then(Step::Index(i64::try_from(index).unwrap_or(i64::MAX)))
    }

    /// The steps, outermost first.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether this is the object itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    fn then(&self, step: Step) -> Self {
        let mut steps = Vec::with_capacity(self.0.len() + 1);
        steps.extend_from_slice(&self.0);
        steps.push(step);
        Self(steps)
    }
}

impl From<&str> for Path {
    /// A top-level attribute.
    fn from(name: &str) -> Self {
        Self::root().attr(name)
    }
}

impl From<&Path> for Path {
    fn from(path: &Path) -> Self {
        path.clone()
    }
}

impl From<Vec<Step>> for Path {
    fn from(steps: Vec<Step>) -> Self {
        Self(steps)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Attribute(name) if position == 0 => f.write_str(name)?,
                Step::Attribute(name) => write!(f, ".{name}")?,
                Step::Key(key) => write!(f, "[{key:?}]")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_as_in_hcl() {
        let cases = [
            (Path::root(), ""),
            (Path::from("name"), "name"),
            (Path::from("a").attr("b").index(0).key("k"), "a.b[0][\"k\"]"),
            (Path::from("tags").key("a\"b"), "tags[\"a\\\"b\"]"),
        ];
        for (path, text) in cases {
            assert_eq!(path.to_string(), text);
        }
    }
}
