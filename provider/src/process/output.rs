//! What a program prints: line by line into the build's log, and kept for those whose output is an answer.

use super::BuildLog;

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
    log: Option<BuildLog>,
    /// A line of each stream that has no end yet.
    lines: [Vec<u8>; 2],
    kept: String,
}

impl Output {
    /// Writes to this log, if there is one; what is kept is then redacted, too.
    pub fn new(log: Option<&BuildLog>) -> Self {
        Self { log: log.cloned(), lines: Default::default(), kept: String::new() }
    }

    /// Takes what has been printed since the last call.
    pub fn take(&mut self, stream: Stream, mut bytes: &[u8]) {
        while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            self.append(stream, &bytes[..at]);
            self.end_line(stream);
            bytes = &bytes[at + 1..];
        }
        self.append(stream, bytes);
    }

    /// The newest output, with an end to its last line.
    pub fn finish(mut self) -> String {
        for stream in [Stream::Out, Stream::Err] {
            if !self.lines[stream as usize].is_empty() {
                self.end_line(stream);
            }
        }
        self.kept
    }

    fn append(&mut self, stream: Stream, bytes: &[u8]) {
        let line = &mut self.lines[stream as usize];
        let room = LONGEST_LINE.saturating_sub(line.len());
        line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end_line(&mut self, stream: Stream) {
        let line = std::mem::take(&mut self.lines[stream as usize]);
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches('\r');
        match &self.log {
            Some(log) => {
                log.line(text);
                self.kept.push_str(&log.redact(text));
            }
            None => self.kept.push_str(text),
        }
        self.kept.push('\n');
        if self.kept.len() > 2 * KEPT {
            let cut = (self.kept.len() - KEPT..self.kept.len()).find(|at| self.kept.is_char_boundary(*at));
            self.kept.drain(..cut.unwrap_or_default());
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
