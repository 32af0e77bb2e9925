//! One page of Markdown for the provider and each resource, data source and function, as the registries
//! show them.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

/// Reads a file below `examples/`; none when there is no such file.
pub(crate) type Examples<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Every page by its path below `docs/`.
pub(crate) fn all(schema: &Value, examples: Examples<'_>) -> Result<BTreeMap<PathBuf, String>> {
    let mut pages = BTreeMap::new();
    pages.insert("index.md".into(), provider(&schema["provider"], examples)?);
    for (folder, kind, key, example) in [
        ("resources", "Resource", "resource_schemas", "resource.tf"),
        ("data-sources", "Data Source", "data_source_schemas", "data-source.tf"),
    ] {
        for (name, schema) in schema[key].as_object().into_iter().flatten() {
            let short = name.strip_prefix("sindri_").unwrap_or(name);
            let text = object(kind, name, &schema["block"], &format!("{folder}/{name}"), example, examples)?;
            pages.insert(PathBuf::from(folder).join(format!("{short}.md")), text);
        }
    }
    for (name, signature) in schema["functions"].as_object().into_iter().flatten() {
        pages.insert(
            PathBuf::from("functions").join(format!("{name}.md")),
            function(name, signature, examples)?,
        );
    }
    Ok(pages)
}

fn front_matter(title: &str, summary: &str) -> String {
    // A block scalar takes any text; only its first paragraph is a summary.
    let summary = summary.split("\n\n").next().unwrap_or_default().replace('\n', " ");
    format!("---\npage_title: \"{title}\"\nsubcategory: \"\"\ndescription: |-\n  {summary}\n---\n\n")
}

fn provider(schema: &Value, examples: Examples<'_>) -> Result<String> {
    let description = text(&schema["block"]["description"]);
    let mut page = front_matter("Provider: Sindri", description);
    page += &format!("# Sindri Provider\n\n{description}\n\n");
    page += &example("provider/provider.tf", "terraform", examples)?;
    page += &attributes(&schema["block"]);
    Ok(page)
}

fn object(
    kind: &str,
    name: &str,
    block: &Value,
    folder: &str,
    file: &str,
    examples: Examples<'_>,
) -> Result<String> {
    let description = text(&block["description"]);
    let mut page = front_matter(&format!("{name} {kind} - sindri"), description);
    page += &format!("# {name} ({kind})\n\n{description}\n\n");
    page += &example(&format!("{folder}/{file}"), "terraform", examples)?;
    page += &attributes(block);
    if let Some(import) = examples(&format!("{folder}/import.sh")) {
        page += &format!(
            "\n## Import\n\nImport is supported using the following syntax:\n\n```shell\n{import}```\n"
        );
    }
    Ok(page)
}

fn function(name: &str, signature: &Value, examples: Examples<'_>) -> Result<String> {
    let mut page = front_matter(&format!("{name} function - sindri"), text(&signature["summary"]));
    page += &format!("# function: {name}\n\n{}\n\n", text(&signature["description"]));
    page += &example(&format!("functions/{name}/function.tf"), "terraform", examples)?;
    let parameters: Vec<&Value> = signature["parameters"].as_array().into_iter().flatten().collect();
    let list: Vec<String> =
        parameters.iter().map(|one| format!("{} {}", text(&one["name"]), type_name(&one["type"]))).collect();
    let returns = type_name(&signature["return_type"]);
    page +=
        &format!("## Signature\n\n```text\n{name}({}) {returns}\n```\n\n## Arguments\n\n", list.join(", "));
    for (number, one) in parameters.iter().enumerate() {
        let (name, kind) = (text(&one["name"]), type_name(&one["type"]));
        page += &format!("{}. `{name}` ({kind}) {}\n", number + 1, text(&one["description"]));
    }
    Ok(page)
}

fn example(file: &str, language: &str, examples: Examples<'_>) -> Result<String> {
    let text = examples(file).with_context(|| format!("examples/{file} is missing"))?;
    Ok(format!("## Example Usage\n\n```{language}\n{}\n```\n\n", text.trim_end()))
}

/// The attributes of a block, then those of every nested attribute, breadth first.
fn attributes(block: &Value) -> String {
    let mut page = String::from("## Schema\n");
    let mut nested = VecDeque::new();
    page += &groups(&block["attributes"], "", &mut nested);
    while let Some((path, inner)) = nested.pop_front() {
        page += &format!("\n<a id=\"{}\"></a>\n### Nested Schema for `{path}`\n", anchor(&path));
        page += &groups(&inner["attributes"], &path, &mut nested);
    }
    page
}

fn groups<'a>(attributes: &'a Value, path: &str, nested: &mut VecDeque<(String, &'a Value)>) -> String {
    let mut page = String::new();
    for title in ["Required", "Optional", "Read-Only"] {
        let of_group = attributes.as_object().into_iter().flatten().filter(|(_, one)| group(one) == title);
        let lines: Vec<String> = of_group
            .map(|(name, one)| {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let more = if one["nested_type"].is_object() {
                    nested.push_back((path.clone(), &one["nested_type"]));
                    format!(" (see [below for nested schema](#{}))", anchor(&path))
                } else {
                    String::new()
                };
                format!(
                    "- `{name}` ({}) {}{more}\n",
                    traits(one),
                    text(&one["description"]).replace('\n', " ")
                )
            })
            .collect();
        if !lines.is_empty() {
            let level = if path.is_empty() { "###" } else { "####" };
            page += &format!("\n{level} {title}\n\n{}", lines.concat());
        }
    }
    page
}

fn group(attribute: &Value) -> &'static str {
    match (attribute["required"] == true, attribute["optional"] == true) {
        (true, _) => "Required",
        (_, true) => "Optional",
        _ => "Read-Only",
    }
}

/// The type, and what else matters to who writes it.
fn traits(attribute: &Value) -> String {
    let nested = &attribute["nested_type"];
    let mut words = match text(&nested["nesting_mode"]) {
        "" => type_name(&attribute["type"]),
        "single" => "Attributes".to_owned(),
        "list" => "Attributes List".to_owned(),
        "set" => "Attributes Set".to_owned(),
        _ => "Attributes Map".to_owned(),
    };
    for (key, word) in
        [("sensitive", ", Sensitive"), ("write_only", ", Write-only"), ("deprecated", ", Deprecated")]
    {
        if attribute[key] == true {
            words += word;
        }
    }
    words
}

/// A type's name as the registries write it: `["list", "string"]` is a List of String.
fn type_name(kind: &Value) -> String {
    match kind {
        Value::String(name) if name == "dynamic" => "Dynamic".to_owned(),
        Value::String(name) if name == "bool" => "Boolean".to_owned(),
        Value::String(name) => name[..1].to_uppercase() + &name[1..],
        Value::Array(parts) => match parts.as_slice() {
            [outer, inner @ (Value::String(_) | Value::Array(_))] => {
                format!("{} of {}", type_name(outer), type_name(inner))
            }
            _ => "Object".to_owned(),
        },
        _ => "Dynamic".to_owned(),
    }
}

fn anchor(path: &str) -> String {
    format!("nestedatt--{}", path.replace('.', "--"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({
            "provider": { "block": { "description": "Makes things.", "attributes": {} } },
            "resource_schemas": { "sindri_image": { "block": {
                "description": "An image.\n\nMore of it.",
                "attributes": {
                    "name": { "type": "string", "required": true, "description": "Its name." },
                    "tags": { "type": ["map", "string"], "optional": true, "description": "Its tags." },
                    "secret": { "type": "string", "optional": true, "write_only": true, "sensitive": true },
                    "id": { "type": "number", "computed": true, "description": "Its id." },
                    "qemu": { "optional": true, "description": "Here.", "nested_type": {
                        "nesting_mode": "single",
                        "attributes": { "base": { "required": true, "description": "From.", "nested_type": {
                            "nesting_mode": "list",
                            "attributes": { "suite": { "type": "string", "required": true } },
                        } } },
                    } },
                },
            } } },
            "functions": { "join": {
                "summary": "Joins.", "description": "Joins them.", "return_type": "string",
                "parameters": [{ "name": "parts", "type": ["list", "dynamic"], "description": "What." }],
            } },
        })
    }

    fn pages() -> BTreeMap<PathBuf, String> {
        all(&schema(), &|file| Some(format!("# {file}\n"))).unwrap()
    }

    #[test]
    fn pages_are_where_the_registries_look() {
        let pages = pages();
        let names: Vec<_> = pages.keys().map(|page| page.to_string_lossy().into_owned()).collect();
        assert_eq!(names, ["functions/join.md", "index.md", "resources/image.md"]);
    }

    #[test]
    fn a_page_has_front_matter_example_groups_and_import() {
        let page = &pages()[&PathBuf::from("resources/image.md")];
        assert!(
            page.starts_with("---\npage_title: \"sindri_image Resource - sindri\"\nsubcategory: \"\"\n"),
            "{page}"
        );
        assert!(page.contains("description: |-\n  An image.\n---"), "{page}");
        for line in [
            "# resources/sindri_image/resource.tf",
            "### Required\n\n- `name` (String) Its name.",
            "- `tags` (Map of String) Its tags.",
            "- `secret` (String, Sensitive, Write-only) ",
            "- `qemu` (Attributes) Here. (see [below for nested schema](#nestedatt--qemu))",
            "### Read-Only\n\n- `id` (Number) Its id.",
            "<a id=\"nestedatt--qemu--base\"></a>\n### Nested Schema for `qemu.base`\n\n#### Required\n\n- `suite` (String) ",
            "- `base` (Attributes List) From.",
            "```shell\n# resources/sindri_image/import.sh\n```",
        ] {
            assert!(page.contains(line), "no {line:?} in:\n{page}");
        }
    }

    #[test]
    fn a_function_has_its_signature() {
        let page = &pages()[&PathBuf::from("functions/join.md")];
        assert!(page.contains("join(parts List of Dynamic) String"), "{page}");
        assert!(page.contains("1. `parts` (List of Dynamic) What."), "{page}");
    }

    #[test]
    fn a_missing_example_is_an_error() {
        let error = all(&schema(), &|_| None).unwrap_err();
        assert!(error.to_string().contains("examples/provider/provider.tf"), "{error}");
    }
}
