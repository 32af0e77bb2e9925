//! Resources, data sources and commands by hand do not tell clouds apart by name: a new cloud is a folder below `backends/` and
//! a line where its name is needed. [ADR 16](../../../docs/adr/0016-what-a-new-cloud-adds.md) says what stands where.

use std::path::Path;

use anyhow::{Result, anyhow};
use proc_macro2::{TokenStream, TokenTree};

use super::Finding;
use crate::repository;

/// What does not know which clouds there are.
const CLOUDLESS: [&str; 5] = [
    "provider/src/resources",
    "provider/src/data_sources",
    "provider/src/functions",
    "provider/src/by_hand",
    "provider/src/by_hand.rs",
];

/// Who may name them nevertheless.
const NAMED: [&str; 5] = [
    // The attributes themselves.
    "provider/src/resources/image/model/mod.rs",
    "provider/src/resources/vm/model.rs",
    "provider/src/data_sources/template/model.rs",
    // What is on this computer alone.
    "provider/src/by_hand/prune.rs",
    "provider/src/by_hand/sweep.rs",
];

/// Folders below `backends/` that are no clouds.
const OTHERS: [&str; 2] = ["section", "template"];

/// The clouds, by the folders that they have.
pub(crate) fn known() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in repository::root().join("provider/src/backends").read_dir()? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() && !OTHERS.contains(&name.as_str()) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Where a file names a cloud: in a path, a field, a type, or a string that is a name.
pub(crate) fn check(file: &Path, source: &str, clouds: &[String]) -> Result<Vec<Finding>> {
    let is_of_tests = file.components().any(|part| part.as_os_str() == "tests")
        || file.file_stem().is_some_and(|stem| stem == "tests");
    let is_cloudless = CLOUDLESS.iter().any(|part| file.starts_with(part));
    if is_of_tests || !is_cloudless || NAMED.iter().any(|named| file == Path::new(named)) {
        return Ok(Vec::new());
    }
    let tokens: TokenStream = source.parse().map_err(|error| anyhow!("not Rust tokens: {error}"))?;
    let mut findings = Vec::new();
    walk(tokens, &mut |line, word| {
        if let Some(cloud) = clouds.iter().find(|cloud| is_about(word, cloud)) {
            let what = format!("names the cloud {cloud}: ask its section, or `Cloud`, instead");
            findings.push(Finding::new(file, line, what));
        }
    });
    findings.dedup();
    Ok(findings)
}

/// Visits all names and strings but those of a test module.
fn walk(tokens: TokenStream, visit: &mut impl FnMut(usize, &str)) {
    let mut before = [String::new(), String::new()];
    for token in tokens {
        let text = match &token {
            TokenTree::Group(group) => {
                if before != ["mod", "tests"] {
                    walk(group.stream(), visit);
                }
                String::new()
            }
            TokenTree::Ident(name) => {
                visit(name.span().start().line, &name.to_string());
                name.to_string()
            }
            TokenTree::Literal(literal) => {
                visit(literal.span().start().line, &literal.to_string());
                String::new()
            }
            TokenTree::Punct(_) => String::new(),
        };
        before = [std::mem::take(&mut before[1]), text];
    }
}

/// Whether a word is a cloud's: `aws`, `AwsImageModel`, `"aws"`, `"aws.share"`, `"aws/…"`.
fn is_about(word: &str, cloud: &str) -> bool {
    if let Some(text) = word.strip_prefix('"') {
        return text.strip_prefix(cloud).is_some_and(|rest| rest.starts_with(['"', '.', '/']));
    }
    let mut letters = cloud.chars();
    let camel: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
    word == cloud || word.strip_prefix(&camel).is_some_and(|rest| !rest.starts_with(char::is_lowercase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cloud_is_named_where_its_attribute_is_and_nowhere_else() {
        let (plan, model) = ("provider/src/resources/vm/plan.rs", "provider/src/resources/vm/model.rs");
        for (file, source, good) in [
            (plan, "fn f() { planned.aws.is_known() }", false),
            (plan, "use crate::backends::{Backends, qemu};", false),
            (plan, "fn f(model: AwsVmModel) {}", false),
            (plan, "const SHARED: &str = \"aws.share\";", false),
            (plan, "fn f() { cloud == \"aws\" }", false),
            (plan, "fn f() { section.plan_change() } // aws", true),
            (plan, "const TEXT: &str = \"On aws it is so.\"; fn f(x: Awsome) {}", true),
            (plan, "mod tests { fn f() { \"aws\" } }", true),
            (model, "struct Model { aws: Attr<AwsVmModel> }", true),
            ("provider/src/resources/vm/tests.rs", "fn f() { \"aws\" }", true),
            ("provider/src/backends/aws/mod.rs", "const CLOUD: &str = \"aws\";", true),
        ] {
            let clouds = ["aws".to_owned(), "qemu".to_owned()];
            let found = check(Path::new(file), source, &clouds).unwrap();
            assert_eq!(found.is_empty(), good, "{file} {source}: {found:?}");
        }
    }

    #[test]
    fn clouds_are_folders() {
        let known = known().unwrap();
        assert!(known.contains(&"aws".to_owned()) && !known.contains(&"template".to_owned()), "{known:?}");
    }
}
