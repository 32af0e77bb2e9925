//! What the provider's configuration says of tags: which all objects get, and which are somebody else's.

use std::collections::{BTreeMap, BTreeSet};

/// For all images and machines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tagging {
    /// What everything gets.
    pub default: BTreeMap<String, String>,
    /// Keys that are left alone once an object is made. `*` at the end stands for whatever follows.
    pub ignored: BTreeSet<String>,
    /// What of both is only known after apply: until then, nobody knows an object's tags.
    pub unknown: Unknown,
}

/// What of the provider's configuration is not known yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unknown {
    /// Nothing.
    #[default]
    Nothing,
    /// Which tags everything gets.
    Default,
    /// Which tags are left alone, at least.
    Ignored,
}

impl Tagging {
    /// An object's own tags over the default ones, as it is made with them.
    pub fn all(&self, own: BTreeMap<String, String>) -> BTreeMap<String, String> {
        self.default.clone().into_iter().chain(own).collect()
    }

    /// Those among them that are looked after.
    pub fn managed(&self, mut tags: BTreeMap<String, String>) -> BTreeMap<String, String> {
        tags.retain(|key, _| !self.ignores(key));
        tags
    }

    /// What became of an object's own tags. Those that are left alone are as they were written.
    pub fn seen(
        &self,
        own: &BTreeMap<String, String>,
        now: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let seen = |(key, written): (&String, &String)| {
            let value = if self.ignores(key) { Some(written) } else { now.get(key) };
            Some((key.clone(), value?.clone()))
        };
        own.iter().filter_map(seen).collect()
    }

    /// Whether it is known which tags an object is to have.
    pub fn is_known(&self) -> bool {
        self.unknown == Unknown::Nothing
    }

    /// Whether a tag is left alone.
    pub fn ignores(&self, key: &str) -> bool {
        self.ignored.iter().any(|entry| match entry.strip_suffix('*') {
            Some(prefix) => key.starts_with(prefix),
            None => key == entry,
        })
    }
}

/// What can stand in [`Tagging::ignored`].
///
/// # Errors
/// What is wrong with one.
pub fn ignored(keys: &BTreeSet<String>) -> Result<(), String> {
    for key in keys {
        if key.is_empty() {
            return Err("an empty key ignores nothing: leave it out".into());
        }
        if key.trim_end_matches('*').contains('*') || key.ends_with("**") {
            return Err(format!(
                "{key:?} has a `*` that is not its end: write a key, or how keys begin and `*`"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagging(ignored: &[&str]) -> Tagging {
        let default = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
        let ignored = ignored.iter().map(|key| (*key).to_owned()).collect();
        Tagging { default, ignored, ..Tagging::default() }
    }

    #[test]
    fn keys_and_prefixes_are_ignored() {
        for (entries, ignored, kept) in [
            (&[][..], &[][..], &["owner", "", "*"][..]),
            (&["owner"], &["owner"], &["owners", "Owner", "own"]),
            (&["cost:*"], &["cost:", "cost:center"], &["cost", "a cost:center"]),
            (&["a", "b*"], &["a", "b", "bc"], &["c", "ab"]),
            (&["*"], &["a", ""], &[]),
        ] {
            let tagging = tagging(entries);
            assert!(ignored.iter().all(|key| tagging.ignores(key)), "{entries:?}");
            assert!(!kept.iter().any(|key| tagging.ignores(key)), "{entries:?}");
        }
    }

    #[test]
    fn own_tags_win_and_an_object_is_made_with_ignored_ones() {
        let own = |value: &str| BTreeMap::from([("team".to_owned(), value.to_owned())]);
        assert_eq!(tagging(&[]).all(BTreeMap::new()), own("a"));
        assert_eq!(tagging(&["team"]).all(own("b")), own("b"));
        assert_eq!(tagging(&["team"]).managed(own("b")), BTreeMap::new());
    }

    #[test]
    fn what_is_left_alone_does_not_drift() {
        let tags = |values: &[(&str, &str)]| -> BTreeMap<String, String> {
            values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let own = tags(&[("a", "1"), ("b", "1"), ("c", "1"), ("owner", "1"), ("gone:x", "1")]);
        let now = tags(&[("a", "1"), ("b", "2"), ("owner", "2"), ("theirs", "2")]);
        let expected = tags(&[("a", "1"), ("b", "2"), ("owner", "1"), ("gone:x", "1")]);
        assert_eq!(tagging(&["owner", "gone:*"]).seen(&own, &now), expected);
    }

    #[test]
    fn a_star_stands_at_the_end() {
        let checked = |key: &str| ignored(&BTreeSet::from([key.to_owned()]));
        for good in ["owner", "*", "kubernetes.io/cluster/*"] {
            assert_eq!(checked(good), Ok(()), "{good}");
        }
        for bad in ["", "a*b", "**", "*a", "a**"] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }
}
