//! What a build would hand to Packer, without a build: the template, its values and the parts' files; and, when asked
//! for, what Packer itself says of them.
//!
//! Packer is asked in a private folder that goes afterwards, with a key that opens nothing. Archives are empty there, as
//! are files that only a build has: Packer looks whether there is a file, not into it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Content, Draft, Kind, Part, PartError, Site, write};
use crate::domain::causes;
use crate::domain::template::Script;
use crate::domain::{BackendError, Template, TemplateRequest};
use crate::packer::{Folder, Form, Job, Packer, PackerError, Recipe, Settings, Variables, Version};
use crate::process::{BuildLog, Limits, Redactor, Runner, Secret, private};
use crate::ssh::{self, SshError};

/// The private key's file, in the folder in which Packer runs.
pub const KEY: &str = "ssh_key";
/// What Packer is given, in that folder.
const FOLDER: &str = "packer";
/// What Packer has to end when it is cancelled.
const GRACE: Duration = Duration::from_secs(5);

/// Programs, and where plugins are.
#[derive(Debug, Clone, Copy)]
pub struct Tools<'a> {
    /// Which Packer is used.
    pub packer: &'a Settings,
    /// Starts it.
    pub runner: &'a Runner,
    /// A folder that all runs on this computer share.
    pub lock_dir: &'a Path,
}

/// A template that is shown.
#[derive(Debug, Clone, Copy)]
pub struct Preview<'a> {
    /// What is asked for.
    pub request: &'a TemplateRequest,
    /// Programs.
    pub tools: Tools<'a>,
    /// The oldest Packer that can build such an image.
    pub needed: Version,
}

/// The Packer that a template is for.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// Its version.
    pub version: Version,
    /// Itself, where it was looked for.
    found: Option<Packer>,
}

/// What a build would hand over.
#[derive(Debug, Clone)]
pub struct Handed<'a> {
    /// The template's forms.
    pub forms: Vec<Form>,
    /// Its values.
    pub variables: Variables,
    /// What is done in the image.
    pub drafts: Vec<Draft>,
    /// What the template requires when it requires something: name and version.
    pub required: String,
    /// Files that a build has, relative to where Packer runs.
    pub files: &'a [&'a str],
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    /// The version is none, too old, or of another Packer.
    #[error("{0}")]
    Version(String),
    /// A part.
    #[error(transparent)]
    Part(#[from] PartError),
    /// Packer.
    #[error(transparent)]
    Packer(#[from] PackerError),
    /// The key for the look.
    #[error("could not make a key")]
    Key(#[from] SshError),
    /// A file operation failed.
    #[error("could not create {}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl PreviewError {
    /// As data sources see it.
    pub fn into_backend(self) -> BackendError {
        let operation = "rendering the template";
        match self {
            Self::Version(problem) => {
                BackendError::Refused { attribute: "packer_version".to_owned(), problem }
            }
            Self::Packer(error) if error.is_cancelled() => {
                BackendError::Cancelled { operation: operation.to_owned() }
            }
            Self::Packer(error @ PackerError::Invalid { .. }) => {
                BackendError::Refused { attribute: "validate".to_owned(), problem: causes(&error) }
            }
            other => BackendError::failed(operation, other),
        }
    }
}

impl Preview<'_> {
    /// Chooses the Packer that the template is for. It is looked for only when it is needed.
    ///
    /// # Errors
    /// When there is none, it is too old, or another one than asked for would have to validate.
    pub async fn packer(&self) -> Result<Chosen, PreviewError> {
        let asked = match &self.request.packer_version {
            Some(text) => Some(Version::of_text(text).ok_or_else(|| no_version(text))?),
            None => None,
        };
        let found = if self.request.validate || asked.is_none() {
            let limits = Limits::cancelled_by(&self.request.cancel);
            let found = self.tools.packer.locate(self.tools.runner, &limits).await;
            Some(found.map_err(PackerError::from)?)
        } else {
            None
        };
        let version = match (asked, found.as_ref().map(|packer| packer.version)) {
            (Some(asked), Some(here)) if asked != here => {
                let problem = format!(
                    "the Packer that would validate is {here}: leave `packer_version` out, set `validate = false`, or have `packer.binary` in the provider's configuration name Packer {asked}"
                );
                return Err(PreviewError::Version(problem));
            }
            (Some(version), _) | (None, Some(version)) => version,
            // It is looked for where none is asked for.
            (None, None) => self.needed,
        };
        if version < self.needed {
            let needed = self.needed;
            let problem = format!(
                "such an image needs Packer {needed} or later, and this is {version}: install a newer one, or set `packer_version` to the one that will build"
            );
            return Err(PreviewError::Version(problem));
        }
        Ok(Chosen { version, found })
    }

    /// What is shown: the form that Packer takes, or, when it is not asked, the first that a build would try.
    ///
    /// # Errors
    /// What Packer has against it, or why it cannot be asked.
    pub async fn show(&self, chosen: &Chosen, handed: Handed<'_>) -> Result<Template, PreviewError> {
        let taken = match (&chosen.found, self.request.validate) {
            (Some(packer), true) => self.validate(packer, &handed).await?,
            _ => 0,
        };
        let hcl = handed.forms.get(taken).map(|form| form.hcl.clone());
        Ok(Template {
            packer_version: Some(chosen.version.to_string()),
            hcl,
            variables: Some(handed.variables.values()),
            scripts: handed.drafts.into_iter().map(script).collect(),
        })
    }

    async fn validate(&self, packer: &Packer, handed: &Handed<'_>) -> Result<usize, PreviewError> {
        let outer = tempfile::Builder::new().prefix("sindri-template-").tempdir();
        let outer = outer.map_err(io_error(&std::env::temp_dir()))?;
        let dir = outer.path();
        let log = BuildLog::create(dir, "validate", "0", Redactor::default()).map_err(io_error(dir))?;
        ssh::generate(&dir.join(KEY), "")?;
        for name in handed.files {
            let path = dir.join(name);
            private::write(&path, b"").map_err(io_error(&path))?;
        }
        let Self { request, tools, .. } = self;
        let (runner, cancel) = (tools.runner, &request.cancel);
        write(&Site { cwd: dir, runner, log: &log, cancel }, without_archives(&handed.drafts)).await?;
        let folder = Folder::create(&dir.join(FOLDER))?;
        let job = Job {
            folder: &folder,
            cwd: dir,
            runner,
            log: &log,
            cancel,
            grace: GRACE,
            keep: false,
            keep_output: false,
            then: None,
        };
        let Handed { forms, variables, required, .. } = handed;
        let recipe = Recipe { forms, variables, required, lock_dir: tools.lock_dir };
        Ok(packer.accept(&job, &recipe).await?)
    }
}

fn script(draft: Draft) -> Script {
    let Draft { part: Part { kind, name, of, source, .. }, content } = draft;
    let content = match content {
        Content::Text(text) => Some(text.expose().to_owned()),
        Content::Archive(_) => None,
    };
    let kind = match kind {
        Kind::Script | Kind::Limited => "script",
        Kind::Upload => "upload",
        Kind::Reboot => "reboot",
        Kind::Return => "return",
    };
    Script { name, of, kind, file: Some(source), content }
}

/// The same, with empty files in the place of archives.
fn without_archives(drafts: &[Draft]) -> Vec<Draft> {
    let content = |draft: &Draft| match &draft.content {
        Content::Archive(_) => Content::Text(Secret::new("")),
        text @ Content::Text(_) => text.clone(),
    };
    drafts.iter().map(|draft| Draft { content: content(draft), part: draft.part.clone() }).collect()
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> PreviewError {
    let path = path.to_owned();
    move |source| PreviewError::Io { path, source }
}

fn no_version(text: &str) -> PreviewError {
    PreviewError::Version(format!("{text:?} is no version of Packer: write it as \"1.11.2\""))
}
