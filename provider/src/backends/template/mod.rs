//! Packer templates of the user's own: built as they are, and what they make looked after.
//!
//! What a build makes is told by Packer alone, and the builder's id says whose business it is: that of a [`Keeper`], of which
//! each backend may bring one, or nobody's. Which images there are is in state, and in records on this computer.

mod build;
mod environment;
mod error;
mod files;
mod images;
mod inputs;
pub mod model;
mod read;
mod records;
mod settle;
mod spec;
mod sweep;
mod target;
mod trace;
mod values;

use std::path::PathBuf;
use std::sync::Arc;

pub use build::TemplateBuilder;
pub use images::{Known, TemplateImages};
pub use settle::{Left, Settled};
pub use spec::{Mistake, TemplateSpec};

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::files::Files;
use self::records::Records;
use crate::domain::{BackendError, Keeper, Made, Seen};
use crate::packer;
use crate::process::Runner;
use crate::process::claims::Claims;

/// The backend's name in state.
pub const CLOUD: &str = "packer";
/// What stands for its region.
pub const REGION: &str = "local";
/// The builder that makes nothing: its artifact is none.
const NOTHING: &str = "fnoeding.null";

/// Templates, as the provider's configuration has them built.
#[derive(Debug)]
pub struct Templates {
    /// Where records, builds and logs are.
    pub data_dir: PathBuf,
    /// A folder that all runs on this computer share.
    pub cache_dir: PathBuf,
    /// Starts programs.
    pub runner: Runner,
    /// Which Packer is used.
    pub packer: packer::Settings,
    /// Claims that no state knows yet.
    pub claims: Claims,
    /// Who looks after what is made, beside files on this computer.
    pub keepers: Vec<Arc<dyn Keeper>>,
}

impl TemplateSpec {
    /// What the key of its image is made of.
    ///
    /// # Errors
    /// What is wrong with the template or what comes with it.
    pub fn key_inputs(&self) -> Result<Value, Vec<Mistake>> {
        Ok(inputs::read(self)?.key)
    }
}

impl Templates {
    /// Who builds this template.
    pub fn builder(self: &Arc<Self>, spec: TemplateSpec) -> TemplateBuilder {
        TemplateBuilder::new(Arc::clone(self), spec)
    }

    /// Images of templates; `known` is what state says of the one that is meant.
    pub fn images(self: &Arc<Self>, known: Option<Known>) -> TemplateImages {
        TemplateImages::new(Arc::clone(self), known)
    }

    fn records(&self) -> Records {
        Records::open(&self.data_dir)
    }

    /// A build's own folder: values, and what Packer tells.
    fn build_dir(&self, build: Uuid) -> PathBuf {
        self.data_dir.join("builds").join(build.to_string())
    }

    fn keeper(&self, made: &Made) -> Option<&dyn Keeper> {
        if Files.keeps(made) {
            return Some(&Files);
        }
        self.keepers.iter().map(AsRef::as_ref).find(|keeper| keeper.keeps(made))
    }

    /// What Packer's artifacts consist of, each with whether somebody looks after it. Paths are made absolute.
    fn made(&self, report: &packer::Report, directory: &std::path::Path) -> Vec<Made> {
        let mut all = Vec::new();
        for artifact in report.artifacts() {
            if artifact.builder_id == NOTHING && artifact.files.is_empty() {
                continue;
            }
            let mut made = Made {
                builder_id: artifact.builder_id.clone(),
                id: artifact.id.clone(),
                files: artifact.files.clone(),
                managed: false,
            };
            files::absolute(&mut made, directory);
            match self.keeper(&made) {
                Some(keeper) => {
                    all.extend(keeper.parts(&made).into_iter().map(|part| Made { managed: true, ..part }));
                }
                None => all.push(made),
            }
        }
        all
    }

    /// Those of the things that are still there, with what there is of them. What nobody looks after counts as there.
    async fn look(&self, made: &[Made]) -> Result<Vec<(Made, Seen)>, BackendError> {
        let mut there = Vec::new();
        for one in made {
            let seen = match self.keeper(one).filter(|_| one.managed) {
                Some(keeper) => keeper.look(one).await?,
                None => Some(Seen::default()),
            };
            there.extend(seen.map(|seen| (one.clone(), seen)));
        }
        Ok(there)
    }

    /// Deletes what somebody looks after, but for files that another image has by now. Returns what stays, and why.
    async fn delete(
        &self,
        image: Uuid,
        made: &[Made],
        cancel: &CancellationToken,
    ) -> Result<Vec<String>, BackendError> {
        let others = self.records().all();
        let others = others.map_err(|error| BackendError::failed("reading the records of images", error))?;
        let others: Vec<Made> =
            others.into_iter().filter(|record| record.id != image).flat_map(|record| record.made).collect();
        let is_others = |path: &PathBuf| others.iter().any(|other| other.files.contains(path));
        let mut left = Vec::new();
        for one in made {
            match self.keeper(one).filter(|_| one.managed) {
                Some(keeper) => {
                    let mut own = one.clone();
                    own.files.retain(|path| !is_others(path));
                    left.extend(keeper.delete(&own, cancel).await?);
                }
                None => left.push(format!("{}: nobody here knows how to delete it", told(one))),
            }
        }
        Ok(left)
    }
}

/// A thing in words.
fn told(made: &Made) -> String {
    let files: Vec<String> = made.files.iter().map(|path| path.display().to_string()).collect();
    match files.as_slice() {
        [] => format!("{} ({})", made.id, made.builder_id),
        files => format!("{} ({})", files.join(", "), made.builder_id),
    }
}
