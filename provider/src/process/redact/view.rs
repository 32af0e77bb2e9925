//! What a text says when its escapes are read: however they are spelt, the secret behind them is found.

use std::ops::Range;

/// A text with some of its escapes read.
pub(super) struct View {
    pub(super) bytes: Vec<u8>,
    /// Where each byte comes from, and the text's end.
    origins: Vec<usize>,
}

/// The views of a text that has escapes: those of URLs, also with a plus sign for a space, and those of JSON, shells and
/// programming languages, also twice.
pub(super) fn of(text: &str) -> Vec<View> {
    let mut views = Vec::new();
    let has = |c: char| text.contains(c);
    if !has('%') && !has('+') && !has('\\') {
        return views;
    }
    let plain = View { bytes: text.into(), origins: (0..=text.len()).collect() };
    if has('%') {
        views.push(plain.read(percent));
    }
    if has('+') {
        views.push(plain.read(|rest| if rest[0] == b'+' { Some((vec![b' '], 1)) } else { percent(rest) }));
    }
    if has('\\') {
        let once = plain.read(backslash);
        let twice = once.bytes.contains(&b'\\').then(|| once.read(backslash));
        views.push(once);
        views.extend(twice);
    }
    views
}

impl View {
    /// What the bytes of this range come from.
    pub(super) fn origin(&self, range: Range<usize>) -> Range<usize> {
        self.origins[range.start]..self.origins[range.end]
    }

    /// The view with escapes read: `read` is given the rest of the text, which is not empty, and returns what an escape at
    /// its beginning stands for and how long it is.
    fn read(&self, read: impl Fn(&[u8]) -> Option<(Vec<u8>, usize)>) -> Self {
        let (mut bytes, mut origins) = (Vec::new(), Vec::new());
        let mut at = 0;
        while at < self.bytes.len() {
            let length = match read(&self.bytes[at..]) {
                Some((meant, length)) => {
                    bytes.extend(meant);
                    length
                }
                None => {
                    bytes.push(self.bytes[at]);
                    1
                }
            };
            origins.resize(bytes.len(), self.origins[at]);
            at += length;
        }
        origins.extend(self.origins.last());
        Self { bytes, origins }
    }
}

/// `%2F`.
fn percent(rest: &[u8]) -> Option<(Vec<u8>, usize)> {
    let byte = if rest[0] == b'%' { number(rest.get(1..3)?, 16)? } else { return None };
    Some((vec![u8::try_from(byte).ok()?], 3))
}

/// `\n`, `\x41`, `\101`, `\u0041`, `\"`.
fn backslash(rest: &[u8]) -> Option<(Vec<u8>, usize)> {
    if rest[0] != b'\\' {
        return None;
    }
    let byte = |byte: u8| Some((vec![byte], 2));
    match *rest.get(1)? {
        b'n' => byte(b'\n'),
        b'r' => byte(b'\r'),
        b't' => byte(b'\t'),
        b'a' => byte(7),
        b'b' => byte(8),
        b'v' => byte(11),
        b'f' => byte(12),
        b'e' | b'E' => byte(27),
        b'x' => Some((vec![u8::try_from(number(rest.get(2..4)?, 16)?).ok()?], 4)),
        b'0'..=b'7' => Some((vec![u8::try_from(number(rest.get(1..4)?, 8)?).ok()?], 4)),
        b'u' => unicode(rest),
        b'U' => character(number(rest.get(2..10)?, 16)?, 10),
        other => byte(other),
    }
}

/// `\u0041`, or two of them that stand for one character.
fn unicode(rest: &[u8]) -> Option<(Vec<u8>, usize)> {
    let first = number(rest.get(2..6)?, 16)?;
    if !(0xd800..0xdc00).contains(&first) {
        return character(first, 6);
    }
    let second = rest.get(6..12)?.strip_prefix(b"\\u").and_then(|digits| number(digits, 16))?;
    character(0x10000 + ((first - 0xd800) << 10) + second.checked_sub(0xdc00)?, 12)
}

fn character(code: u32, length: usize) -> Option<(Vec<u8>, usize)> {
    Some((char::from_u32(code)?.to_string().into(), length))
}

fn number(digits: &[u8], radix: u32) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| Some(number * radix + char::from(*digit).to_digit(radix)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_read() {
        for (text, read) in [
            ("plain: 5 > 4", &[][..]),
            ("50% of 100%25 %e4%C3%A4%", &["50% of 100% \u{fffd}\u{e4}%"]),
            ("a+b%2Bc", &["a+b+c", "a b+c"]),
            (r#"{\"a\": \"\u003c\ud83d\ude00\/\t\"}"#, &["{\"a\": \"<\u{1f600}/\t\"}"]),
            (r"\x41\101\u00e4\U0001F600", &["AA\u{e4}\u{1f600}"]),
            (r"\ud800x\u\", &[r"\ud800x\u\"; 2]),
            (r"\\n", &["\\n", "\n"]),
        ] {
            let views: Vec<_> =
                of(text).iter().map(|view| String::from_utf8_lossy(&view.bytes).into_owned()).collect();
            assert_eq!(views, read, "{text}");
        }
    }

    #[test]
    fn what_was_read_is_found_in_the_text() {
        let text = r"ab\u00e4\\nd";
        for (view, byte, origin) in [(0, 2, r"\u00e4"), (0, 4, r"\\"), (1, 4, r"\\n"), (1, 5, "d")] {
            let view = &of(text)[view];
            let end = if byte == 2 { 4 } else { byte + 1 };
            assert_eq!(&text[view.origin(byte..end)], origin);
        }
    }
}
