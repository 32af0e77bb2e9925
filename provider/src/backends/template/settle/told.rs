//! What Packer says that it made, as far as it is written down.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Left;
use crate::backends::template::Templates;
use crate::backends::template::build::FOLDER;
use crate::backends::template::trace::Doubtful;
use crate::domain::{BackendError, Made};
use crate::packer::{OUTPUT, Report, output};
use crate::process::private;

/// What Packer says that it made, in the build's folder.
pub(in crate::backends::template) const MADE: &str = "made.json";

/// What Packer says that it made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::backends::template) struct Told {
    /// All of it.
    pub(in crate::backends::template) made: Vec<Made>,
    /// Whether no build of the template failed.
    pub(in crate::backends::template) whole: bool,
    /// Those that were seen in an account, and are about to be deleted: the account by the thing's id.
    #[serde(default)]
    pub(in crate::backends::template) seen: BTreeMap<String, String>,
    /// What builders said that they make, and what is not found yet. `None` as long as nobody has looked for it.
    #[serde(default)]
    pub(in crate::backends::template) doubtful: Option<Vec<Doubtful>>,
}

impl Told {
    /// Writes it into a build's folder.
    pub(in crate::backends::template) fn write(&self, dir: &Path) -> io::Result<()> {
        private::write(&dir.join(MADE), &serde_json::to_vec(self).map_err(io::Error::other)?)
    }

    /// Writes down what was seen, for what is deleted is not seen any more, before it is deleted. What cannot be written
    /// down stays in the journal then, as something that was never seen.
    pub(in crate::backends::template) fn note(&self, dir: &Path, unseen: &[(Made, String)]) {
        if self.seen.is_empty() && unseen.is_empty() && self.doubtful.iter().all(Vec::is_empty) {
            return;
        }
        match self.write(dir) {
            // Values and output are of no use any more.
            Ok(()) => private::remove_build_dir(&dir.join(FOLDER)),
            Err(error) => {
                tracing::warn!(folder = %dir.display(), %error, "what is deleted cannot be written down");
            }
        }
    }
}

impl Templates {
    /// What Packer told of before it or we ended, and whether that is all.
    pub(super) fn told_of(&self, dir: &Path, left: &Left) -> Result<Told, BackendError> {
        let written = fs::read(dir.join(MADE)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if let Some(told) = written {
            return Ok(told);
        }
        let path = dir.join(FOLDER).join(OUTPUT);
        let unread = |error| BackendError::failed(format!("reading {}", path.display()), error);
        let (report, ended) = read_output(&path).map_err(unread)?;
        let whole = ended && report.is_complete() && !report.has_failed();
        Ok(Told { made: self.made(&report, &left.directory), whole, ..Told::default() })
    }
}

/// Reads Packer's output, and whether it said that it was at its end.
fn read_output(path: &Path) -> io::Result<(Report, bool)> {
    let (mut report, mut ended) = (Report::default(), false);
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((report, false)),
        file => file?,
    };
    for line in io::BufReader::new(file).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if let Some(record) = output::Record::parse(line.trim_end_matches('\r')) {
            ended |= record.field(1).contains("Builds finished.");
            report.take(&record);
        }
    }
    Ok((report, ended))
}
