//! The values of a template. They travel in files that only their owner can read, never in the template itself, so that
//! no value can become code.

use serde_json::{Map, Value};

use super::escape;

/// Their file. Packer reads every `*.auto.pkrvars.json` beside a template.
pub(super) const FILE: &str = "values.auto.pkrvars.json";

/// Values by the name of their variable. All strings in them are taken literally.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Variables(Map<String, Value>);

impl Variables {
    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), literal(value.into()));
    }

    /// Sets a variable to text that Packer is to expand: of ours, never of a user.
    pub fn set_template(&mut self, name: &str, text: &str) {
        self.0.insert(name.to_owned(), text.into());
    }

    /// All of them, as they stand in their file.
    pub fn values(&self) -> Value {
        Value::Object(self.0.clone())
    }
}

fn literal(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(escape(&text)),
        Value::Array(values) => Value::Array(values.into_iter().map(literal).collect()),
        Value::Object(values) => {
            Value::Object(values.into_iter().map(|(name, value)| (name, literal(value))).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn only_templates_of_ours_are_expanded() {
        let mut variables = Variables::default();
        variables.set("a", json!(["{{x", {"b": "{{"}, 3]));
        variables.set_template("t", "{{ .Name }}");
        let text = r#"{"a":["{{`{{`}}x",{"b":"{{`{{`}}"},3],"t":"{{ .Name }}"}"#;
        assert_eq!(variables.values().to_string(), text);
    }

    proptest! {
        /// What Go's template engine makes of it: an action with a raw string is that string.
        #[test]
        fn any_text_arrives_unchanged(text: String, dense in "[{}`a$%\n\"\\\\]{0,24}") {
            for text in [text, dense] {
                let mut variables = Variables::default();
                variables.set("v", text.as_str());
                let read: Value = serde_json::from_str(&variables.values().to_string()).unwrap();
                let read = read["v"].as_str().unwrap();
                let mut expanded = String::new();
                for (index, part) in read.split("{{`{{`}}").enumerate() {
                    if index > 0 { expanded.push_str("{{"); }
                    prop_assert!(!part.contains("{{"), "an action is open in {:?}", read);
                    expanded.push_str(part);
                }
                prop_assert_eq!(expanded, text);
            }
        }
    }
}
