//! A template of the user's own, and what Packer is given with it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::process::Secret;

/// A template and all that it is built with. All paths are absolute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TemplateSpec {
    /// A file, or a folder of files that belong together.
    pub template: PathBuf,
    /// Where Packer runs.
    pub directory: PathBuf,
    /// Values of variables.
    pub variables: BTreeMap<String, String>,
    /// Secret ones.
    pub secrets: BTreeMap<String, Secret>,
    /// Whether those are known yet.
    pub secrets_known: bool,
    /// Stands for the secret ones in the key.
    pub secrets_version: Option<i64>,
    /// Files of values; a later one wins, and `variables` over all.
    pub variable_files: Vec<PathBuf>,
    /// The builds that are meant.
    pub only: Vec<String>,
    /// Those that are left out.
    pub except: Vec<String>,
    /// What Packer does when a build fails, in its own words.
    pub on_error: String,
    /// How many builds run at a time.
    pub parallel_builds: Option<u32>,
    /// Whether what is in the way of an artifact is deleted.
    pub force: bool,
    /// Whether builds run one after the other and tell more.
    pub debug: bool,
}

/// Something is wrong with the template or what comes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The attribute, dots between its parts.
    pub attribute: String,
    /// In a few words.
    pub summary: &'static str,
    /// What is wrong and what to do.
    pub problem: String,
}

impl Mistake {
    pub(super) fn new(
        attribute: impl Into<String>,
        summary: &'static str,
        problem: impl Into<String>,
    ) -> Self {
        Self { attribute: attribute.into(), summary, problem: problem.into() }
    }
}
