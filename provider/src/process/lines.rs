//! Cuts what a program prints into lines, in bounded memory.

/// A line that has no end yet.
#[derive(Debug)]
pub(super) struct Lines {
    partial: Vec<u8>,
    longest: usize,
}

impl Lines {
    /// Of a longer line than this, the rest is cut.
    pub(super) fn new(longest: usize) -> Self {
        Self { partial: Vec::new(), longest }
    }

    /// Takes bytes as they come, and hands on each line that ends in them.
    pub(super) fn take(&mut self, mut bytes: &[u8], mut line: impl FnMut(&str)) {
        while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            self.append(&bytes[..at]);
            self.end(&mut line);
            bytes = &bytes[at + 1..];
        }
        self.append(bytes);
    }

    /// Hands on what has come of the last line.
    pub(super) fn finish(&mut self, line: impl FnMut(&str)) {
        if !self.partial.is_empty() {
            self.end(line);
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        let room = self.longest.saturating_sub(self.partial.len());
        self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end(&mut self, mut line: impl FnMut(&str)) {
        let bytes = std::mem::take(&mut self.partial);
        line(String::from_utf8_lossy(&bytes).trim_end_matches('\r'));
    }
}
