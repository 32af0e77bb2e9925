//! What a program prints: line by line into the build's log, and kept for those whose output is an answer.

use super::BuildLog;
use super::lines::Lines;

/// The longest line that is kept whole; the rest of a longer one is cut.
const LONGEST_LINE: usize = 16 * 1024;
/// How much is kept at least, when there is so much: the newest.
const KEPT: usize = 1024 * 1024;

/// Where output comes from, when it comes apart: half a line of one is not continued by the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or both in one.
    Out,
    /// Standard error.
    Err,
}

/// Takes bytes as they come, in bounded memory.
#[derive(Debug)]
pub struct Output {
    /// Of each stream.
    lines: [Lines; 2],
    kept: Kept,
}

impl Output {
    /// Writes to this log, if there is one; what is kept is then redacted, too.
    pub fn new(log: Option<&BuildLog>) -> Self {
        let lines = [Lines::new(LONGEST_LINE), Lines::new(LONGEST_LINE)];
        Self { lines, kept: Kept { log: log.cloned(), text: String::new() } }
    }

    /// Takes what has been printed since the last call.
    pub fn take(&mut self, stream: Stream, bytes: &[u8]) {
        self.lines[stream as usize].take(bytes, |line| self.kept.line(line));
    }

    /// The newest output, with an end to its last line.
    pub fn finish(mut self) -> String {
        for lines in &mut self.lines {
            lines.finish(|line| self.kept.line(line));
        }
        self.kept.text
    }
}

#[derive(Debug)]
struct Kept {
    log: Option<BuildLog>,
    text: String,
}

impl Kept {
    fn line(&mut self, line: &str) {
        match &self.log {
            Some(log) => {
                log.line(line);
                self.text.push_str(&log.redact(line));
            }
            None => self.text.push_str(line),
        }
        self.text.push('\n');
        if self.text.len() > 2 * KEPT {
            let cut = (self.text.len() - KEPT..self.text.len()).find(|at| self.text.is_char_boundary(*at));
            self.text.drain(..cut.unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut_into_lines_and_bounded() {
        let mut output = Output::new(None);
        for part in ["on", "e\r\ntw", "o\n\nth", "ree"] {
            output.take(Stream::Out, part.as_bytes());
        }
        assert_eq!(output.finish(), "one\ntwo\n\nthree\n");

        let mut output = Output::new(None);
        for (stream, part) in
            [(Stream::Out, "half "), (Stream::Err, "E: no"), (Stream::Out, "a line\n"), (Stream::Err, "pe")]
        {
            output.take(stream, part.as_bytes());
        }
        assert_eq!(output.finish(), "half a line\nE: nope\n");

        let mut output = Output::new(None);
        for _ in 0..40_000 {
            output.take(
                Stream::Out,
                b"0123456789012345678901234567890123456789012345678901234567890123456789\n",
            );
        }
        output.take(Stream::Out, &vec![b'x'; 100_000]);
        let kept = output.finish();
        assert!(kept.len() <= 2 * KEPT + LONGEST_LINE + 1);
        assert!(kept.ends_with("xx\n"));
    }
}
