//! Secrets, and how they are kept out of what people read.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

/// What stands where a secret stood.
const MASK: &str = "(redacted)";

/// A secret shorter than this is not looked for: hiding every "1" would hide the log.
const SHORTEST: usize = 4;

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for the one place that has to hand it over.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// Replaces secrets in text, whole and in the forms in which programs print them: line by line, base64,
/// JSON-escaped, URL-encoded.
#[derive(Clone, Default)]
pub struct Redactor {
    needles: Vec<String>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} forms)", self.needles.len())
    }
}

impl Redactor {
    /// A redactor for these secrets.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut needles: Vec<String> =
            secrets.into_iter().flat_map(|secret| forms(secret.expose())).collect();
        needles.retain(|needle| needle.len() >= SHORTEST);
        // The longest first, so that a part never hides the rest of a longer match.
        needles.sort_by_key(|needle| std::cmp::Reverse(needle.len()));
        needles.dedup();
        Self { needles }
    }

    /// The text without the secrets.
    pub fn redact(&self, text: &str) -> String {
        self.needles.iter().fold(text.to_owned(), |text, needle| text.replace(needle, MASK))
    }
}

fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![
        secret.to_owned(),
        in_json(secret),
        url_encode(secret),
        STANDARD.encode(secret),
        STANDARD_NO_PAD.encode(secret),
        URL_SAFE.encode(secret),
        URL_SAFE_NO_PAD.encode(secret),
        // What `echo "$SECRET" | base64` prints.
        STANDARD.encode(format!("{secret}\n")),
    ];
    // Output is read line by line; some programs make line ends of what JSON has for them, in the secret, too.
    let spelt_out = secret.replace("\\r", "\r").replace("\\n", "\n");
    let lines = secret.lines().chain(spelt_out.lines());
    forms.extend(lines.flat_map(|line| [line.to_owned(), in_json(line)]));
    forms
}

fn in_json(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    json[1..json.len() - 1].to_owned()
}

fn url_encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_every_form() {
        let secret = Secret::new("p@ss \"word\"\nsecond line");
        let redactor = Redactor::new([&secret]);
        for shown in [
            "p@ss \"word\"\nsecond line",
            "p@ss \"word\"",
            "second line",
            "p@ss \\\"word\\\"\\nsecond line",
            "p%40ss%20%22word%22%0Asecond%20line",
            "cEBzcyAid29yZCIKc2Vjb25kIGxpbmU=",
            "cEBzcyAid29yZCIKc2Vjb25kIGxpbmUK",
        ] {
            let text = redactor.redact(&format!("<{shown}>"));
            assert_eq!(text, format!("<{MASK}>"), "{shown}");
        }
    }

    #[test]
    fn hides_the_lines_that_a_program_makes_of_one() {
        let redactor = Redactor::new([&Secret::new("-----BEGIN\\nMIIEvQIBADAN\\n-----END")]);
        assert_eq!(redactor.redact("    q.i: MIIEvQIBADAN"), format!("    q.i: {MASK}"));
    }

    #[test]
    fn leaves_the_rest_and_short_values_alone() {
        let redactor = Redactor::new([&Secret::new("abc"), &Secret::new("")]);
        assert_eq!(redactor.redact("abc and more"), "abc and more");
    }

    #[test]
    fn debug_prints_nothing() {
        assert_eq!(format!("{:?}", Secret::new("hunter22")), "(redacted)");
        assert!(!format!("{:?}", Redactor::new([&Secret::new("hunter22")])).contains("hunter22"));
    }
}
