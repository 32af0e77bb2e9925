//! Renders an embedded template. What it is told decides which blocks there are; a user's values are not among it.

use serde::Serialize;
use tera::{Context, Tera};

use super::PackerError;

/// The template `text`, with `structure` for what depends on versions and numbers of things. It may include `parts`, by
/// their names.
///
/// # Errors
/// When the template is wrong, or asks for what `structure` does not have.
pub fn render(text: &str, parts: &[(&str, &str)], structure: &impl Serialize) -> Result<String, PackerError> {
    let wrong = |error: tera::Error| PackerError::Template(Box::new(error));
    let mut tera = Tera::default();
    let all = parts.iter().copied().chain([("packer", text)]);
    tera.add_raw_templates(all).map_err(wrong)?;
    tera.render("packer", &Context::from_serialize(structure).map_err(wrong)?).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_is_escaped_and_what_is_missing_is_told() {
        let text = "{% for n in parts %}\"{{ n }}\" {% endfor %}{% raw %}{{.Path}}{% endraw %}";
        assert_eq!(render(text, &[], &json!({ "parts": [1, "<&"] })).unwrap(), "\"1\" \"<&\" {{.Path}}");
        assert!(render(text, &[], &json!({})).is_err());
        let whole = render("{% include \"part\" %}", &[("part", "<{{ n }}>")], &json!({ "n": 1 }));
        assert_eq!(whole.unwrap(), "<1>");
        assert!(render("{% if %}", &[], &json!({})).is_err());
    }
}
