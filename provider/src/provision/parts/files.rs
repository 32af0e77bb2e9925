//! The parts' files, in the order in which they are run.

use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::super::upload;
use super::{Content, Draft, Part, PartError};
use crate::process::{BuildLog, Runner, private};

/// What is worked with.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// Where Packer runs. The parts' folder in it is made.
    pub cwd: &'a Path,
    /// Starts programs.
    pub runner: &'a Runner,
    /// What they say is written here.
    pub log: &'a BuildLog,
    /// Ends them early.
    pub cancel: &'a CancellationToken,
}

/// Writes the files (0600) of these parts.
///
/// # Errors
/// When one cannot be written, or what is uploaded cannot be read.
pub async fn write(site: &Site<'_>, drafts: Vec<Draft>) -> Result<Vec<Part>, PartError> {
    let Site { cwd, runner, log, cancel } = site;
    let mut parts = Vec::with_capacity(drafts.len());
    for Draft { part, content } in drafts {
        let path = cwd.join(&part.source);
        let folder = path.parent().unwrap_or(cwd);
        private::create_dir(folder).map_err(|source| PartError::Write { path: folder.to_owned(), source })?;
        match content {
            Content::Text(text) => {
                let written = private::write(&path, text.expose().as_bytes());
                written.map_err(|source| PartError::Write { path, source })?;
            }
            Content::Archive(source) => {
                upload::pack(runner, &source, &path, log, cancel).await?;
            }
        }
        parts.push(part);
    }
    Ok(parts)
}
