//! The values of a template. They travel in files that only their owner can read, never in the template itself, so that
//! no value can become code.

use serde_json::{Map, Value};

use super::escape;

/// The file of plain values. Packer reads every `*.auto.pkrvars.json` beside a template.
pub(super) const PLAIN: &str = "values.auto.pkrvars.json";
/// The file of secret ones.
pub(super) const SECRET: &str = "secrets.auto.pkrvars.json";

/// Values by the name of their variable. All strings in them are taken literally.
#[derive(Default, Clone, PartialEq)]
pub struct Variables {
    plain: Map<String, Value>,
    secret: Map<String, Value>,
}

impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Variables({:?}, {} secret ones)", self.plain, self.secret.len())
    }
}

impl Variables {
    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.plain.insert(name.to_owned(), literal(value.into()));
    }

    /// Sets a variable whose declaration says `sensitive`.
    pub fn set_secret(&mut self, name: &str, value: impl Into<Value>) {
        self.secret.insert(name.to_owned(), literal(value.into()));
    }

    /// Sets a variable to text that Packer is to expand: of ours, never of a user.
    pub fn set_template(&mut self, name: &str, text: &str) {
        self.plain.insert(name.to_owned(), text.into());
    }

    /// The plain values, as they stand in their file.
    pub fn plain(&self) -> Map<String, Value> {
        self.plain.clone()
    }

    /// The files' names and contents.
    pub fn files(&self) -> [(&'static str, String); 2] {
        [(PLAIN, &self.plain), (SECRET, &self.secret)]
            .map(|(name, values)| (name, Value::Object(values.clone()).to_string()))
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
    fn secrets_have_a_file_of_their_own_and_are_never_printed() {
        let mut variables = Variables::default();
        variables.set("a", json!(["{{x", {"b": "{{"}, 3]));
        variables.set_secret("s", "hunter22");
        variables.set_template("t", "{{ .Name }}");
        let [(_, plain), (_, secret)] = variables.files();
        assert_eq!(plain, r#"{"a":["{{`{{`}}x",{"b":"{{`{{`}}"},3],"t":"{{ .Name }}"}"#);
        assert_eq!(secret, r#"{"s":"hunter22"}"#);
        assert!(!format!("{variables:?}").contains("hunter22"));
    }

    proptest! {
        /// What Go's template engine makes of it: an action with a raw string is that string.
        #[test]
        fn any_text_arrives_unchanged(text: String, dense in "[{}`a$%\n\"\\\\]{0,24}") {
            for text in [text, dense] {
                let mut variables = Variables::default();
                variables.set("v", text.as_str());
                let [(_, file), _] = variables.files();
                let read: Value = serde_json::from_str(&file).unwrap();
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
