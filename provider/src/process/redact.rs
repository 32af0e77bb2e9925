//! Secrets, and how they are kept out of what people read.

mod forms;
mod proxies;
mod view;

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::ops::Range;

use self::forms::PIECE;

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

/// Replaces secrets in text, whole and in the forms in which programs print them: line by line, quoted, escaped,
/// URL-encoded, and in base64, however its lines are broken and whatever it encodes beside the secret.
#[derive(Clone, Default)]
pub struct Redactor {
    /// What is looked for, by its first bytes.
    needles: HashMap<[u8; SHORTEST], Vec<String>>,
    /// So many characters in a row of base64 are only found where a secret is encoded.
    pieces: HashSet<[u8; PIECE]>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} forms)", self.needles.values().map(Vec::len).sum::<usize>())
    }
}

impl Redactor {
    /// A redactor for these secrets.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        Self::default().and(secrets)
    }

    /// The same for the passwords of this environment's proxies, too, which every program of a build sees.
    #[must_use]
    pub fn and_of_proxies(self) -> Self {
        self.and(&proxies::passwords(|name| std::env::var(name).ok()))
    }

    /// The same for more secrets.
    #[must_use]
    pub fn and<'a>(self, secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut redactor = self;
        let mut needles = BTreeSet::new();
        for secret in secrets {
            needles.extend(forms::needles(secret.expose()));
            for encoded in forms::encoded(secret.expose()) {
                match encoded.len() {
                    ..PIECE => needles.extend([encoded]),
                    _ => redactor.pieces.extend(windows(encoded.as_bytes()).map(|(_, piece)| piece)),
                }
            }
        }
        for needle in needles {
            if let Some(first) = needle.as_bytes().first_chunk() {
                redactor.needles.entry(*first).or_default().push(needle);
            }
        }
        redactor
    }

    /// The text without the secrets.
    pub fn redact(&self, text: &str) -> String {
        if self.needles.is_empty() {
            return text.to_owned();
        }
        let mut found = self.find(text.as_bytes());
        for view in view::of(text) {
            found.extend(self.find(&view.bytes).into_iter().map(|range| view.origin(range)));
        }
        // What overlaps is hidden as one, so that a part never hides the rest of a longer match.
        found.sort_by_key(|range| (range.start, Reverse(range.end)));
        let (mut out, mut end) = (String::with_capacity(text.len()), 0);
        for range in found {
            if range.start >= end {
                out.push_str(&text[end..range.start]);
                out.push_str(MASK);
            }
            end = end.max(range.end);
        }
        out + &text[end..]
    }

    fn find(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        for (at, first) in windows(text) {
            let needles = self.needles.get(&first).into_iter().flatten();
            let here = needles.filter(|needle| text[at..].starts_with(needle.as_bytes()));
            found.extend(here.map(|needle| at..at + needle.len()));
        }
        for (start, run) in forms::runs(text) {
            let here = windows(run).filter(|(_, piece)| self.pieces.contains(piece));
            found.extend(here.map(|(at, piece)| start + at..start + at + piece.len()));
        }
        found
    }
}

/// Each `N` bytes in a row, and where.
fn windows<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = (usize, [u8; N])> {
    bytes.windows(N).enumerate().filter_map(|(at, window)| Some((at, *window.first_chunk()?)))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

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

    /// A text in base64 as programs break it into lines.
    fn base64(text: &[u8], width: usize) -> Vec<String> {
        let encoded = STANDARD.encode(text);
        encoded.as_bytes().chunks(width).map(|line| String::from_utf8_lossy(line).into_owned()).collect()
    }

    #[test]
    fn hides_what_programs_make_of_it() {
        let spoken = Secret::new("it's <a> \"p@ss/w&rd\"\tof \u{e4}+\\x");
        for shown in [
            // Go's JSON, Python's, PHP's; JSON in JSON.
            r#"it's \u003ca\u003e \"p@ss/w\u0026rd\"\tof \u{e4}+\\x"#.replace("\\u{e4}", "\u{e4}"),
            r#"it's <a> \"p@ss/w&rd\"\tof \u00e4+\\x"#.into(),
            r#"it's <a> \"p@ss\/w&rd\"\tof \u00e4+\\x"#.into(),
            r#"it's <a> \\\"p@ss/w&rd\\\"\\tof \\u00e4+\\\\x"#.into(),
            // Python's text and bytes.
            r#"it\'s <a> "p@ss/w&rd"\tof \xe4+\\x"#.replace("\\xe4", "\u{e4}"),
            r#"it\'s <a> "p@ss/w&rd"\tof \xc3\xa4+\\x"#.into(),
            // Shells'.
            "it'\\''s <a> \"p@ss/w&rd\"\tof \u{e4}+\\x".into(),
            "it'\"'\"'s <a> \"p@ss/w&rd\"\tof \u{e4}+\\x".into(),
            r#"it\'s\ \<a\>\ \"p@ss/w\&rd\"\tof\ \303\244+\\x"#.into(),
            // URLs, each with what it leaves and how it writes a space.
            "it%27s%20%3Ca%3E%20%22p%40ss%2Fw%26rd%22%09of%20%C3%A4%2B%5Cx".into(),
            "it%27s%20%3ca%3e%20%22p%40ss/w%26rd%22%09of%20%c3%a4%2b%5cx".into(),
            "it's+%3Ca%3E+%22p@ss%2Fw%26rd%22%09of+%C3%A4%2B%5Cx".into(),
        ] {
            let redacted = Redactor::new([&spoken]).redact(&format!("<{shown}>"));
            assert_eq!(redacted, format!("<{MASK}>"), "{shown}");
        }
    }

    #[test]
    fn hides_its_base64_however_it_is_broken_and_whatever_is_around() {
        let key: String = (0..40).map(|n| format!("MIIE{n}vQIBADANBgkqhkiG9w0BAQ\n")).collect();
        for secret in ["s3cr3t/token", &key[..100], &key] {
            let redactor = Redactor::new([&Secret::new(secret)]);
            for (before, after) in
                [("", ""), ("u:", ""), ("usr:", ""), ("user:", "\n"), ("user:", " and more")]
            {
                let text = format!("{before}{}{after}", secret.trim_end());
                let others = (before.len() + after.len()).div_ceil(3) * 4 + 4;
                // Where a line ends and where it begins, less than a piece may be left.
                for (width, cut) in [(usize::MAX, 0), (64, 14), (70, 14), (76, 14)] {
                    for line in base64(text.as_bytes(), width) {
                        let shown = redactor.redact(&line);
                        let left: usize = shown.split(MASK).map(str::len).sum();
                        assert!(left <= others + cut, "{left} of {text:?} by {width}: {shown}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_last_line_of_base64_is_hidden() {
        for secret in ["x".repeat(57) + "abc", "x".repeat(57) + "abc\n", "x".repeat(48) + "ab"] {
            let redactor = Redactor::new([&Secret::new(secret.as_str())]);
            for text in [secret.clone(), format!("{secret}\n"), secret.trim_end().to_owned()] {
                for line in [base64(text.as_bytes(), 64), base64(text.as_bytes(), 76)].concat() {
                    assert_eq!(redactor.redact(&line), MASK, "{line}");
                }
            }
        }
    }

    #[test]
    fn hides_what_a_file_has_without_its_last_line_end() {
        let redactor = Redactor::new([&Secret::new("p@ss word\n")]);
        for shown in ["p@ss word", "p%40ss%20word", "p%40ss+word%0A", "cEBzcyB3b3Jk", "cEBzcyB3b3JkCg=="] {
            assert_eq!(redactor.redact(&format!("<{shown}>")), format!("<{MASK}>"), "{shown}");
        }
    }

    #[test]
    fn what_overlaps_is_hidden_as_one() {
        let redactor =
            Redactor::new([&Secret::new("hunter22"), &Secret::new("22-password-2"), &Secret::new("pass")]);
        assert_eq!(redactor.redact("a hunter22-password-2 b pass"), format!("a {MASK} b {MASK}"));
    }

    #[test]
    fn ordinary_words_stay() {
        let key: String = (0..40).map(|n| format!("MIIE{n}vQIBADANBgkqhkiG9w0BAQ\n")).collect();
        let secrets = ["root", "test", "a1", "ab\n", "s3cr3t", "yes ", &key].map(Secret::new);
        let redactor = Redactor::new(&secrets);
        for line in [
            "Setting up libsystemd-shared:amd64 (252.36-1~deb12u1) ... 100% [+12 MB]",
            "Created symlink /etc/systemd/system/multi-user.target.wants/ssh.service \u{2192} /lib/systemd/system/ssh.service.",
            "YWIK YWI= YTE= internationalization/Configuration+Administration_Documentation",
            r"C:\new\table \u00e4 %20 \",
        ] {
            assert_eq!(redactor.redact(line), line);
        }
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
