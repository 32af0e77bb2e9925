//! What a program prints: line by line into the build's log, and kept for those whose output is an answer.

use super::BuildLog;

/// The longest line that is kept whole; the rest of a longer one is cut.
const LONGEST_LINE: usize = 16 * 1024;
/// How much is kept at least, when there is so much: the newest.
const KEPT: usize = 1024 * 1024;

/// Takes bytes as they come, in bounded memory.
#[derive(Debug)]
pub struct Output {
    log: Option<BuildLog>,
    line: Vec<u8>,
    kept: String,
}

impl Output {
    /// Writes to this log, if there is one; what is kept is then redacted, too.
    pub fn new(log: Option<&BuildLog>) -> Self {
        Self { log: log.cloned(), line: Vec::new(), kept: String::new() }
    }

    /// Takes what has been printed since the last call.
    pub fn take(&mut self, mut bytes: &[u8]) {
        while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            self.append(&bytes[..at]);
            self.end_line();
            bytes = &bytes[at + 1..];
        }
        self.append(bytes);
    }

    /// The newest output, with an end to its last line.
    pub fn finish(mut self) -> String {
        if !self.line.is_empty() {
            self.end_line();
        }
        self.kept
    }

    fn append(&mut self, bytes: &[u8]) {
        let room = LONGEST_LINE.saturating_sub(self.line.len());
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end_line(&mut self) {
        let text = String::from_utf8_lossy(&self.line);
        let text = text.trim_end_matches('\r');
        match &self.log {
            Some(log) => {
                log.line(text);
                self.kept.push_str(&log.redact(text));
            }
            None => self.kept.push_str(text),
        }
        self.kept.push('\n');
        self.line.clear();
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
            output.take(part.as_bytes());
        }
        assert_eq!(output.finish(), "one\ntwo\n\nthree\n");

        let mut output = Output::new(None);
        for _ in 0..40_000 {
            output.take(b"0123456789012345678901234567890123456789012345678901234567890123456789\n");
        }
        output.take(&vec![b'x'; 100_000]);
        let kept = output.finish();
        assert!(kept.len() <= 2 * KEPT + LONGEST_LINE + 1);
        assert!(kept.ends_with("xx\n"));
    }
}
