//! The few calls of Go's template language that stand for a path or a variable.

use super::scope::Scope;

/// The text with such calls replaced, and whether it begins with a folder of the template. None when it has others: what
/// they stand for is known when Packer runs.
pub(super) fn expand(text: &str, scope: &Scope<'_>) -> Option<(String, bool)> {
    let (mut out, mut anchored, mut rest) = (String::new(), false, text);
    while let Some((before, after)) = rest.split_once("{{") {
        let (call, behind) = after.split_once("}}")?;
        out.push_str(before);
        let is_first = out.is_empty();
        match call.trim() {
            "template_dir" => out.push_str(scope.root.to_str()?),
            "pwd" => out.push_str(scope.directory.to_str()?),
            other => {
                let name = other.strip_prefix("user")?.trim().trim_matches(['`', '"']);
                out.push_str(scope.variables.get(name)?);
                rest = behind;
                continue;
            }
        }
        anchored |= is_first;
        rest = behind;
    }
    out.push_str(rest);
    Some((out, anchored))
}
