//! The values that Packer is given: in files that only their owner can read, never in arguments.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::TemplateSpec;
use super::read::Template;
use crate::process::private;

/// Writes the configuration's values into a folder. Returns Packer's files of values, in the order in which they count.
///
/// # Errors
/// What the file system says, and of which file.
pub(super) fn write(
    spec: &TemplateSpec,
    template: &Template,
    folder: &Path,
) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let mut files = spec.variable_files.clone();
    let plain = spec.variables.iter().map(|(name, text)| (name, text.as_str()));
    let secret = spec.secrets.iter().map(|(name, secret)| (name, secret.expose()));
    let of = |name: &String, text: &str| (name.clone(), value(template, name, text));
    let plain: Map<String, Value> = plain.map(|(name, text)| of(name, text)).collect();
    let secret: Map<String, Value> = secret.map(|(name, text)| of(name, text)).collect();
    for (name, values) in [("values.pkrvars.json", plain), ("secrets.pkrvars.json", secret)] {
        if values.is_empty() {
            continue;
        }
        let path = folder.join(name);
        let written = private::write(&path, Value::Object(values).to_string().as_bytes());
        written.map_err(|error| (path.clone(), error))?;
        files.push(path);
    }
    Ok(files)
}

/// A value as Packer's files have it: text as it stands, all else from JSON.
fn value(template: &Template, name: &str, text: &str) -> Value {
    let is_text = template.content.variables.get(name).is_none_or(|variable| variable.is_text);
    let parsed = if is_text { None } else { serde_json::from_str(text).ok() };
    parsed.unwrap_or_else(|| Value::from(text))
}
