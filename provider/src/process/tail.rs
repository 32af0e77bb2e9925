//! The end of what a program or a machine has printed, for an error.

/// How many lines of a console an error shows.
const OF_CONSOLE: usize = 25;

/// The last of these lines.
pub fn last<'a>(lines: impl DoubleEndedIterator<Item = &'a str>, count: usize) -> String {
    let mut last: Vec<&str> = lines.rev().take(count).collect();
    last.reverse();
    last.join("\n")
}

/// The last lines of a console, without control characters; empty when there is nothing.
pub fn of_console(text: &str) -> String {
    let clean = strip_escapes(text);
    last(clean.lines().map(str::trim_end).filter(|line| !line.is_empty()), OF_CONSOLE)
}

/// The text without terminal sequences (ESC [ … letter, ESC and one more) and other control characters.
fn strip_escapes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => {
                if chars.next() == Some('[') {
                    chars.by_ref().find(|c| ('@'..='~').contains(c));
                }
            }
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_more_lines_the_last_are_kept_in_order() {
        for (text, count, expected) in
            [("a\nb\nc\n", 2, "b\nc"), ("a\n\nb", 9, "a\n\nb"), ("", 2, ""), ("a", 0, "")]
        {
            assert_eq!(last(text.lines(), count), expected, "{text:?}");
        }
    }

    #[test]
    fn the_end_of_a_console_is_readable() {
        for (text, expected) in [
            ("", ""),
            ("a\r\n\r\nb", "a\nb"),
            ("\u{1b}[2J\u{1b}[01;01H\u{1b}[=3hBdsDxe: failed\r\n", "BdsDxe: failed"),
            ("\u{1b}cLinux\u{7}\u{1b}[", "Linux"),
        ] {
            assert_eq!(of_console(text), expected, "{text:?}");
        }
        let long: String = (0..100).map(|n| format!("{n}\n")).collect();
        assert_eq!(of_console(&long).lines().next(), Some("75"));
    }
}
