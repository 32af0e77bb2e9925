//! Logs of builds: kept as long as their image, and long enough to be read where there is none.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::Store;

/// The age at which a log goes whose image is not in this store.
const FORGET: Duration = Duration::from_secs(90 * 24 * 3600);

/// How long a build's id is at the end of its log's name.
const ID: usize = 36;

impl Store {
    /// Removes old logs, and links to logs that are gone. What cannot be removed stays for the next time.
    pub fn forget_logs(&self) {
        for entry in fs::read_dir(self.logs()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".log")) else { continue };
            let Ok(meta) = entry.metadata() else { continue };
            let gone = if meta.is_symlink() {
                !entry.path().exists()
            } else {
                let old = meta.modified().is_ok_and(|time| time.elapsed().is_ok_and(|age| age > FORGET));
                let id = name.len().checked_sub(ID).and_then(|at| name.get(at..));
                old && !id.is_some_and(|id| self.images().join(Path::new(id)).is_dir())
            };
            if gone {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}
