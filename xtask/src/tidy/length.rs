//! A file is at most 400 lines without its tests, a file of tests at most 600: what is longer is two things. A comment is at
//! most 130 characters wide.

use std::path::Path;

use super::Finding;

const LIMIT: usize = 400;
/// A test needs more lines for what it says.
const OF_TESTS: usize = 600;
/// Code is wrapped by rustfmt, comments are not.
const WIDTH: usize = 130;

/// Counts the lines up to the file's own test module; in a file of tests all of them.
pub(crate) fn check(file: &Path, source: &str) -> Option<Finding> {
    let of_tests = file.components().any(|part| part.as_os_str() == "tests")
        || file.file_stem().is_some_and(|stem| stem == "tests");
    let (limit, lines) = match of_tests {
        true => (OF_TESTS, source.lines().count()),
        false => (LIMIT, source.lines().take_while(|line| *line != "#[cfg(test)]").count()),
    };
    (lines > limit).then(|| Finding::new(file, limit, format!("{lines} lines; the limit is {limit}")))
}

/// Finds comments that nobody has wrapped.
pub(crate) fn comments(file: &Path, source: &str) -> Vec<Finding> {
    let wide = |line: &str| line.trim_start().starts_with("//") && line.chars().count() > WIDTH;
    let lines = source.lines().enumerate().filter(|(_, line)| wide(line));
    lines.map(|(at, _)| Finding::new(file, at + 1, format!("a comment wider than {WIDTH}"))).collect()
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
            ("a/src/tests.rs", "fn f() {}\n".repeat(OF_TESTS), true),
            ("a/tests/x.rs", "fn f() {}\n".repeat(OF_TESTS + 1), false),
        ] {
            assert_eq!(check(Path::new(file), &source).is_none(), good, "{file}");
        }
    }

    #[test]
    fn only_comments_are_too_wide() {
        let (wide, narrow) = ("é".repeat(WIDTH - 2), "é".repeat(WIDTH - 3));
        let source = format!("//{narrow}\n    //{narrow}\nlet x = \"{wide}\";\n///{wide}\n//{wide}\n");
        let found = comments(Path::new("a/src/x.rs"), &source);
        assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [2, 4]);
    }
}
