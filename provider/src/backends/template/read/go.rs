//! The few calls of Go's template language that stand for a path or a variable.

use super::scope::Scope;

/// A text as far as it is known without Packer.
#[derive(Debug, Default)]
pub(super) struct Expanded {
    /// The text.
    pub(super) text: String,
    /// Whether it begins with a folder of the template.
    pub(super) anchored: bool,
    /// Whether that is all of it: what other calls stand for is known when Packer runs.
    pub(super) is_all: bool,
}

/// The text with such calls replaced, up to the first one that is another.
pub(super) fn expand(text: &str, scope: &Scope<'_>) -> Expanded {
    let (mut out, mut rest) = (Expanded::default(), text);
    while let Some((before, after)) = rest.split_once("{{") {
        out.text.push_str(before);
        let call = after.split_once("}}");
        let Some((value, is_folder, behind)) =
            call.and_then(|(call, behind)| Some((value(call.trim(), scope)?, is_folder(call), behind)))
        else {
            return out;
        };
        out.anchored |= is_folder && out.text.is_empty();
        out.text.push_str(value);
        rest = behind;
    }
    out.text.push_str(rest);
    Expanded { is_all: true, ..out }
}

fn value<'a>(call: &str, scope: &'a Scope<'_>) -> Option<&'a str> {
    match call {
        "template_dir" => scope.root.to_str(),
        "pwd" => scope.directory.to_str(),
        other => {
            let name = other.strip_prefix("user")?.trim().trim_matches(['`', '"']);
            scope.variables.get(name).map(String::as_str)
        }
    }
}

fn is_folder(call: &str) -> bool {
    matches!(call.trim(), "template_dir" | "pwd")
}
