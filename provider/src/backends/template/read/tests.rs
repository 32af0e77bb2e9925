use std::fs;

use proptest::prelude::*;

use super::*;
use crate::process::Secret;

/// What is said of a template in a file of this name, on which attributes.
fn told(name: &str, text: &str, change: impl FnOnce(&Path, &mut TemplateSpec)) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(name), text).unwrap();
    let mut spec = TemplateSpec {
        template: dir.path().join(name),
        directory: dir.path().to_owned(),
        secrets_known: true,
        ..TemplateSpec::default()
    };
    change(dir.path(), &mut spec);
    let mistakes = spec.key_inputs().err().unwrap_or_default();
    let here = format!("{}/", dir.path().display());
    mistakes.into_iter().map(|it| format!("{}: {}", it.attribute, it.problem.replace(&here, ""))).collect()
}

#[test]
fn mistakes_are_told_with_file_and_line() {
    for (name, text, expected) in [
        ("a.pkr.hcl", "locals {\n  a = 1\n}\nbuild {\n  x = \n}\n", "packer.template: a.pkr.hcl, line 5: "),
        ("a.json", "{\n  \"builders\": [\n", "packer.template: a.json, line "),
        ("a.pkr.json", "[]", "packer.template: a.pkr.json, line 1: an object is expected"),
        ("a.txt", "", "packer.template: a.txt must end in .pkr.hcl, .pkr.json or .json, or be a folder."),
        (
            "a.pkr.hcl",
            "variable \"x\" {}\n",
            "packer.variables: The template's variable \"x\" has no default",
        ),
    ] {
        let told = told(name, text, |_, _| {});
        assert!(told.len() == 1 && told[0].starts_with(expected), "{name}: {told:?}");
    }
}

#[test]
fn files_that_cannot_be_used_are_told_on_their_attribute() {
    let template = "variable \"x\" {\n  default = \"\"\n}\n";
    let files = |names: &'static [&str]| {
        told("a.pkr.hcl", template, |dir, spec| {
            fs::create_dir(dir.join("folder.hcl")).unwrap();
            fs::write(dir.join("ok.hcl"), "x = \"1\"\n").unwrap();
            fs::write(dir.join("bad.json"), "{").unwrap();
            fs::write(dir.join("v.txt"), "").unwrap();
            spec.variable_files = names.iter().map(|name| dir.join(name)).collect();
        })
    };
    assert_eq!(files(&["ok.hcl"]), Vec::<String>::new());
    for (name, expected) in [
        ("folder.hcl", "folder.hcl is a folder: name a file."),
        ("none.hcl", "none.hcl cannot be read: No such file or directory"),
        ("bad.json", "bad.json, line 1: "),
        ("v.txt", "v.txt must end in .hcl or .json."),
    ] {
        let names: &'static [&str] = Box::leak(Box::new(["ok.hcl", name]));
        let told = files(names);
        let expected = format!("packer.variable_files.1: {expected}");
        assert!(told.len() == 1 && told[0].starts_with(&expected), "{name}: {told:?}");
    }
    let gone = told("a.pkr.hcl", template, |dir, spec| spec.template = dir.join("b.pkr.hcl"));
    assert!(gone[0].starts_with("packer.template: b.pkr.hcl cannot be read: No such file"), "{gone:?}");
    let empty = told("a.txt", "", |dir, spec| spec.template = dir.to_owned());
    assert!(empty[0].contains("has no file that ends in .pkr.hcl"), "{empty:?}");
    let away = told("a.pkr.hcl", template, |dir, spec| spec.directory = dir.join("away"));
    assert_eq!(away, ["packer.directory: away is no folder."]);
}

#[test]
fn values_fit_the_template() {
    let template = "variable \"x\" {}\nvariable \"l\" {\n  type = list(string)\n  default = []\n}\n";
    for (variables, secrets, expected) in [
        (&[("x", "1")][..], &[][..], None),
        (&[], &[("x", "1")], None),
        (&[("x", "1"), ("l", "[\"a\"]")], &[], None),
        (&[("x", "1"), ("l", "a")], &[], Some("packer.variables: The variable \"l\" is neither a string")),
        (
            &[("x", "1"), ("y", "2")],
            &[],
            Some("packer.variables: The template declares no variable \"y\". It has: l, x."),
        ),
        (&[("x", "1")], &[("x", "2")], Some("packer.variables_wo: \"x\" is in `variables`, too")),
    ] {
        let of = |all: &[(&str, &str)]| {
            all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>()
        };
        let told = told("a.pkr.hcl", template, |_, spec| {
            spec.variables = of(variables).into_iter().collect();
            spec.secrets = of(secrets).into_iter().map(|(name, value)| (name, Secret::new(value))).collect();
        });
        match expected {
            None => assert_eq!(told, Vec::<String>::new()),
            Some(words) => assert!(told.len() == 1 && told[0].starts_with(words), "{told:?}"),
        }
    }
    // What is not known yet may be there.
    assert_eq!(told("a.pkr.hcl", template, |_, spec| spec.secrets_known = false), Vec::<String>::new());
}

#[test]
fn plugins_are_required_by_those_that_say_so() {
    let block = "packer {\n  required_plugins {\n    amazon = {\n      version = \">= 1.0.0\"\n      source = \"github.com/hashicorp/amazon\"\n    }\n  }\n}\n";
    let requires = |content: Result<Content, Syntax>| content.ok().unwrap().requires_plugins;
    assert!(requires(hcl::template(block)));
    assert!(!requires(hcl::template("packer {\n  required_version = \">= 1.6\"\n}\n")));
    assert!(requires(json::hcl_template("{\"packer\": {\"required_plugins\": {}}}")));
}

#[test]
fn a_variable_without_a_default_needs_a_value() {
    for (name, text, is_required) in [
        ("a.pkr.hcl", "variable \"x\" {}", true),
        ("a.pkr.hcl", "variable \"x\" {\n  default = null\n}\n", false),
        ("a.pkr.json", r#"{"variable": {"x": {}}}"#, true),
        ("a.pkr.json", r#"{"variable": {"x": {"type": "string", "default": null}}}"#, false),
        ("a.pkr.json", r#"{"variables": {"x": null}}"#, false),
        ("a.json", r#"{"variables": {"x": null}}"#, true),
        ("a.json", r#"{"variables": {"x": ""}}"#, false),
    ] {
        assert_eq!(!told(name, text, |_, _| {}).is_empty(), is_required, "{text}");
    }
}

/// Brackets in a text are no structure; those that are have a limit, and not that of the stack.
#[test]
fn brackets_count_where_they_are_structure() {
    let colours = "echo '\\033[1m'\\n# ( {\n".repeat(500);
    let script = format!("a = <<EOT\n{}EOT\n", "echo '\\033[1m' # ( {\n".repeat(500));
    let comment = format!("{}a = 1\n", "# (((\n".repeat(500));
    let json = serde_json::json!({ "a": colours }).to_string();
    for (name, text) in
        [("a.pkr.hcl", &script), ("a.pkr.hcl", &comment), ("a.pkr.json", &json), ("a.json", &json)]
    {
        assert_eq!(told(name, text, |_, _| {}), Vec::<String>::new(), "{name}");
    }
    for open in ["[", "{a=", "(", "${", "%{if ", "!", "-", "1?", "1+", "a.", "a[", "f(", "\"${", "b {\n"] {
        let deep = open.repeat(20_000);
        for (name, text) in [
            ("a.pkr.hcl", format!("a = {deep}")),
            ("a.pkr.hcl", deep.clone()),
            ("a.pkr.hcl", format!("a = \"{deep}\"\n")),
            ("a.json", format!("{{\"a\": {deep}")),
            ("a.pkr.json", serde_json::json!({ "a": format!("${{{deep}") }).to_string()),
        ] {
            told(name, &text, |_, _| {});
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Neither a panic nor a hang nor a full stack.
    #[test]
    fn hostile_templates(text in "[a-z\"{}\\[\\]()$%=<\n .,:?!0-9-]{0,200}", deep in 0..400usize, name in prop::sample::select(vec!["a.pkr.hcl", "a.pkr.json", "a.json"])) {
        told(name, &text, |_, _| {});
        for open in ["[", "{a=", "(", "${", "!", "-", "1?"] {
            told(name, &format!("a = {}", open.repeat(deep)), |_, _| {});
        }
    }
}
