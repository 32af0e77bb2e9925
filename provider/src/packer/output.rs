//! One line of Packer's machine-readable output: `timestamp,target,type,data…`, where commas and line ends in data are
//! spelt out. Takes any bytes; what is no such line is no record.

/// The largest number of data fields that is read; no line of Packer has a tenth of it.
const MOST_FIELDS: usize = 64;

/// A line, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Which build it is about; empty for Packer as a whole.
    pub target: String,
    /// What it tells: `ui`, `artifact`, `artifact-count`, `error`, `error-count`, …
    pub kind: String,
    /// The rest.
    pub data: Vec<String>,
}

impl Record {
    /// Decodes a line, which has no line end any more.
    pub fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(',');
        let timestamp = fields.next()?;
        if timestamp.is_empty() || !timestamp.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let target = decode(fields.next()?);
        let kind = fields.next().filter(|kind| !kind.is_empty())?.to_owned();
        Some(Self { target, kind, data: fields.take(MOST_FIELDS).map(decode).collect() })
    }

    /// A data field; empty when there is none.
    pub fn field(&self, at: usize) -> &str {
        self.data.get(at).map_or("", String::as_str)
    }
}

fn decode(field: &str) -> String {
    field.replace("%!(PACKER_COMMA)", ",").replace("\\n", "\n").replace("\\r", "\r")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_of_both_packers() {
        let record = |target: &str, kind: &str, data: &[&str]| {
            let data = data.iter().map(|field| (*field).to_owned()).collect();
            Some(Record { target: target.into(), kind: kind.into(), data })
        };
        for (line, expected) in [
            ("1795273260,,ui,say,==> file.y: Running", record("", "ui", &["say", "==> file.y: Running"])),
            (
                "1,,ui,message,    file.y: step%!(PACKER_COMMA) with comma",
                record("", "ui", &["message", "    file.y: step, with comma"]),
            ),
            ("1,,ui,say,\\n==> Wait\\r", record("", "ui", &["say", "\n==> Wait\r"])),
            ("1,file.y,artifact-count,2", record("file.y", "artifact-count", &["2"])),
            ("1,file.y,artifact,0,file,0,y.out", record("file.y", "artifact", &["0", "file", "0", "y.out"])),
            ("1,file.y,artifact,0,end", record("file.y", "artifact", &["0", "end"])),
            ("1,,error-count,2", record("", "error-count", &["2"])),
            ("1,,x", record("", "x", &[])),
            ("1,,", None),
            ("1,", None),
            ("", None),
            ("Error: Unsupported block type, in a.pkr.hcl", None),
            ("12x,,ui,say,hello", None),
        ] {
            assert_eq!(Record::parse(line), expected, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer_no_larger_than_they_are(bytes: Vec<u8>, head in 0..3usize) {
            let line = format!("{}{}", ["", "1,", "1,t,ui,"][head], String::from_utf8_lossy(&bytes));
            if let Some(record) = Record::parse(&line) {
                let held: usize = record.data.iter().map(String::len).sum();
                prop_assert!(held <= line.len());
                prop_assert!(record.data.len() <= MOST_FIELDS);
            }
        }

        #[test]
        fn what_packer_writes_is_read_back(fields in prop::collection::vec("[^\\\\%]{0,20}", 0..8)) {
            let encoded: Vec<String> = fields
                .iter()
                .map(|field| field.replace(',', "%!(PACKER_COMMA)").replace('\r', "\\r").replace('\n', "\\n"))
                .collect();
            let line = format!("1795273260,target,kind{}", encoded.iter().map(|it| format!(",{it}")).collect::<String>());
            let record = Record::parse(&line);
            prop_assert_eq!(record.map(|record| record.data), Some(fields));
        }
    }
}
