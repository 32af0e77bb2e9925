//! A file's name says what is in it; these say nothing.

use std::path::Path;

use super::Finding;

const EMPTY_NAMES: [&str; 6] = ["util", "utils", "common", "helper", "helpers", "misc"];

/// A file or folder that is named after nothing.
pub(crate) fn check(file: &Path) -> Option<Finding> {
    let says_nothing = |part: &str| EMPTY_NAMES.contains(&part.strip_suffix(".rs").unwrap_or(part));
    let part =
        file.components().filter_map(|part| part.as_os_str().to_str()).find(|part| says_nothing(part))?;
    Some(Finding::new(file, 1, format!("\"{part}\" does not say what is in it")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_say_nothing_are_found() {
        for (file, good) in [
            ("a/src/util.rs", false),
            ("a/src/common/x.rs", false),
            ("a/tests/helpers/mod.rs", false),
            ("a/src/utility_bill.rs", true),
            ("a/src/store.rs", true),
        ] {
            assert_eq!(check(Path::new(file)).is_none(), good, "{file}");
        }
    }
}
