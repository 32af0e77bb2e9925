//! Packer's plugins expand Go's templates in strings that they have decoded. What a user wrote is no template.

/// The text such that one expansion yields it unchanged.
pub fn escape(text: &str) -> String {
    text.replace("{{", "{{`{{`}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_opens_an_action_is_escaped() {
        for (text, escaped) in [
            ("", ""),
            ("a { b } }} c", "a { b } }} c"),
            ("{{ .Path }}", "{{`{{`}} .Path }}"),
            ("{{{{", "{{`{{`}}{{`{{`}}"),
            ("{{{", "{{`{{`}}{"),
        ] {
            assert_eq!(escape(text), escaped, "{text:?}");
        }
    }
}
