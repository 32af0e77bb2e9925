//! How programs print a secret, as far as it cannot be read back from what they print.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

use super::{SHORTEST, view};

/// How many characters of a secret's base64 in a row are told from others: a line that breaks it leaves fewer of them,
/// less than six bytes of the secret.
pub(super) const PIECE: usize = 8;

/// How long the lines of base64 are: those of openssl and of PEM, those of coreutils and of MIME.
const LINES: [usize; 2] = [64, 76];

/// What quotes become in a shell's, YAML's and CSV's.
const QUOTES: [(&str, &str); 4] = [("'", r"'\''"), ("'", r#"'"'"'"#), ("'", "''"), ("\"", "\"\"")];

/// The secret and its lines, quoted; its base64 with the padding, and what the last line of it has.
pub(super) fn needles(secret: &str) -> Vec<String> {
    let mut needles = Vec::new();
    for text in texts(secret) {
        for shown in text.lines().chain([text.as_str()]) {
            needles.push(shown.to_owned());
            needles.extend(QUOTES.iter().map(|(quote, quoted)| shown.replace(quote, quoted)));
        }
        if text.len() < SHORTEST {
            continue;
        }
        // `echo "$SECRET" | base64` has another line end, `file()` of Terraform one that a program may take away.
        for text in [text.as_str(), text.trim_end_matches(['\r', '\n']), &format!("{text}\n")] {
            needles.extend([STANDARD.encode(text), URL_SAFE.encode(text)]);
            for line in LINES {
                let encoded = STANDARD.encode(text);
                needles.push(encoded[(encoded.len().saturating_sub(1) / line) * line..].to_owned());
            }
        }
    }
    needles.retain(|needle| needle.len() >= SHORTEST);
    needles
}

/// What the base64 of a text has in it in which the secret is, depending on how many bytes are before it: without the
/// characters that others than the secret's bytes have a part in.
pub(super) fn encoded(secret: &str) -> Vec<String> {
    let mut encoded = Vec::new();
    for text in texts(secret) {
        let text = text.trim_end_matches(['\r', '\n']);
        if text.len() < SHORTEST {
            continue;
        }
        for (before, mixed) in [(0, 0), (1, 2), (2, 3)] {
            let bytes = [&[0; 2][..before], text.as_bytes()].concat();
            let whole = bytes.len() * 8 / 6;
            encoded.extend(
                [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD].map(|it| it.encode(&bytes)[mixed..whole].to_owned()),
            );
        }
    }
    encoded
}

/// The secret, also with its escapes read: some programs make line ends of what JSON has for them.
fn texts(secret: &str) -> Vec<String> {
    let read = view::of(secret).into_iter().filter_map(|view| String::from_utf8(view.bytes).ok());
    let texts = BTreeSet::from_iter(read.chain([secret.to_owned()]));
    texts.into_iter().collect()
}

/// Where base64 may be: its characters in a row, as many as a piece has at least.
pub(super) fn runs(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let is_other = |byte: &u8| !(byte.is_ascii_alphanumeric() || b"+/-_".contains(byte));
    let mut start = 0;
    let runs = text.split(is_other).map(move |run| {
        let at = start;
        start += run.len() + 1;
        (at, run)
    });
    runs.filter(|(_, run)| run.len() >= PIECE)
}
