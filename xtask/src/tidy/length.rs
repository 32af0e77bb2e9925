//! A file is at most 400 lines without its tests: what is longer is two things.

use std::path::Path;

use super::Finding;

const LIMIT: usize = 400;

/// Counts the lines up to the file's own test module; whole files of tests have no limit.
pub(crate) fn check(file: &Path, source: &str) -> Option<Finding> {
    let of_tests = file.components().any(|part| part.as_os_str() == "tests")
        || file.file_stem().is_some_and(|stem| stem == "tests");
    let lines = source.lines().take_while(|line| *line != "#[cfg(test)]").count();
    (!of_tests && lines > LIMIT)
        .then(|| Finding::new(file, LIMIT, format!("{lines} lines; the limit is {LIMIT}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_counts() {
        let code = "fn f() {}\n".repeat(LIMIT);
        let tests = format!("#[cfg(test)]\n{code}");
        for (file, source, good) in [
            ("a/src/x.rs", code.clone(), true),
            ("a/src/x.rs", format!("{code}fn g() {{}}\n"), false),
            ("a/src/x.rs", format!("{code}{tests}"), true),
            ("a/src/tests.rs", format!("{code}{code}"), true),
            ("a/tests/x.rs", format!("{code}{code}"), true),
        ] {
            assert_eq!(check(Path::new(file), &source).is_none(), good, "{file}");
        }
    }
}
