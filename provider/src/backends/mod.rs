//! The backends, and the one place that matches on which of them is meant.

pub mod aws;
pub mod qemu;
pub mod template;

use std::sync::Arc;

use aws::Aws;
use aws::image::{AwsImageSpec, Tools};
use aws::sweep::{How, Kind, Remain, SweepError, Swept};
use aws::vm::AwsVmSpec;
use qemu::vm::QemuVmSpec;
use qemu::{Local, QemuImageSpec, UnreadableBase};
use template::{Known, Mistake, Settled, TemplateSpec, Templates};
use tokio_util::sync::CancellationToken;

use crate::domain::causes;
use crate::domain::prerequisite::Prerequisite;
use crate::domain::{
    BackendError, Distribution, ImageBackend, ImageBuilder, ImageSpec, Labels, Tagging, VmBackend, VmLauncher,
};
use crate::journal::Record;

/// Who makes an image, and what only that backend needs to know for it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one of a resource at a time")]
pub enum Target {
    /// This computer.
    Qemu(QemuImageSpec),
    /// AWS.
    Aws(AwsImageSpec),
    /// Whatever a template of the user's own makes.
    Template(TemplateSpec),
}

/// Why there is no key.
#[derive(Debug)]
pub enum KeyError {
    /// A base image on this computer cannot be read.
    Base(UnreadableBase),
    /// Something is wrong with a template.
    Template(Vec<Mistake>),
}

impl Target {
    /// What is impossible about this image, each with the attribute's name, dots between its parts.
    pub fn problems(&self, spec: &ImageSpec) -> Vec<(String, String)> {
        match self {
            Self::Qemu(qemu) => qemu::image::problems(qemu, spec),
            Self::Aws(aws) => aws::image::problems(aws),
            Self::Template(_) => Vec::new(),
        }
    }

    /// What will be as asked for, and perhaps not as meant: for an image that is to be built.
    pub fn doubts(&self, spec: &ImageSpec) -> Vec<(String, String)> {
        match self {
            Self::Qemu(qemu) => qemu::image::doubts(qemu, spec),
            Self::Aws(_) | Self::Template(_) => Vec::new(),
        }
    }

    /// What is impossible about building it: no matter for an image that is there already.
    pub fn build_problems(&self) -> Vec<(String, String)> {
        match self {
            Self::Qemu(_) | Self::Template(_) => Vec::new(),
            Self::Aws(aws) => aws::image::build_problems(aws),
        }
    }

    /// What is impossible about what can change in place.
    pub fn label_problems(&self, labels: &Labels, distribution: &Distribution) -> Vec<(String, String)> {
        match self {
            Self::Qemu(_) | Self::Template(_) => Vec::new(),
            Self::Aws(_) => aws::image::label_problems(labels, distribution),
        }
    }

    /// What the backend adds to the cache key.
    ///
    /// # Errors
    /// When a base image on this computer cannot be read, or a template.
    pub fn key_inputs(&self) -> Result<serde_json::Value, KeyError> {
        match self {
            Self::Qemu(qemu) => qemu.key_inputs().map_err(KeyError::Base),
            Self::Aws(aws) => Ok(aws.key_inputs()),
            Self::Template(template) => template.key_inputs().map_err(KeyError::Template),
        }
    }
}

/// Who runs a machine, and what only that backend needs to know for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VmTarget {
    /// This computer.
    Qemu(QemuVmSpec),
    /// AWS.
    Aws(AwsVmSpec),
}

/// The backends as the provider's configuration sets them up.
#[derive(Debug, Clone)]
pub struct Backends {
    /// Which tags every object gets, and which are left alone.
    pub tagging: Tagging,
    /// This computer.
    pub local: Arc<Local>,
    /// AWS.
    pub aws: Arc<Aws>,
    /// Templates of the user's own.
    pub templates: Arc<Templates>,
}

/// The names that `cloud` has in state and configuration.
pub const CLOUDS: &[&str] = &[qemu::CLOUD, aws::CLOUD];

impl Backends {
    /// All of them. Nothing is asked or loaded yet.
    pub fn new(tagging: Tagging, local: Local, aws: Aws) -> Self {
        let aws = Arc::new(aws);
        let templates = Templates {
            data_dir: local.store.root().to_owned(),
            cache_dir: local.cache_dir.clone(),
            runner: local.runner.clone(),
            packer: local.packer.clone(),
            keepers: vec![Arc::new(aws::image::AmiKeeper::new(Arc::clone(&aws)))],
        };
        Self { tagging, local: Arc::new(local), aws, templates: Arc::new(templates) }
    }

    /// The images of a cloud, by the name that `cloud` has in state, and of a region, where the cloud has some.
    pub fn images(&self, cloud: &str, region: Option<&str>) -> Option<Arc<dyn ImageBackend>> {
        match cloud {
            qemu::CLOUD => Some(Arc::clone(&self.local) as Arc<dyn ImageBackend>),
            aws::CLOUD => Some(Arc::new(self.aws.images(region))),
            template::CLOUD => Some(self.template_images(None)),
            _ => None,
        }
    }

    /// Where images of a cloud are looked for, for whoever finds none there.
    pub async fn place(&self, cloud: &str, region: Option<&str>) -> String {
        match cloud {
            aws::CLOUD => format!("in {}", self.aws.region_name(region).await),
            _ => format!("in {}", self.local.store.root().display()),
        }
    }

    /// Images of templates; `known` is what state says of the one that is meant.
    pub fn template_images(&self, known: Option<Known>) -> Arc<dyn ImageBackend> {
        Arc::new(self.templates.images(known))
    }

    /// The machines of a cloud, by the name that `cloud` has in state, and of a region, where the cloud has some.
    pub fn vms(&self, cloud: &str, region: Option<&str>) -> Option<Arc<dyn VmBackend>> {
        match cloud {
            qemu::CLOUD => Some(Arc::clone(&self.local) as Arc<dyn VmBackend>),
            aws::CLOUD => Some(Arc::new(self.aws.vms(region))),
            _ => None,
        }
    }

    /// The account of a cloud whose credentials are in use, asked once a process; none where a cloud has no accounts.
    ///
    /// # Errors
    /// When the cloud does not tell.
    pub async fn account(&self, cloud: &str) -> Result<Option<String>, BackendError> {
        match cloud {
            aws::CLOUD => {
                let account = self.aws.account().await;
                account
                    .map(|id| Some(id.to_owned()))
                    .map_err(|error| BackendError::failed("asking for the account", error))
            }
            _ => Ok(None),
        }
    }

    /// What working with a cloud needs, and whether it is there.
    pub async fn prerequisites(
        &self,
        cloud: &str,
        region: Option<&str>,
        cancel: &CancellationToken,
    ) -> Vec<Prerequisite> {
        match cloud {
            aws::CLOUD => self.aws.prerequisites(region).await,
            _ => self.local.prerequisites(cancel).await,
        }
    }

    /// Ends what a build began that nobody works on any more.
    ///
    /// # Errors
    /// When something of it stays; so does its entry.
    pub async fn settle(
        &self,
        record: Record,
        how: How,
        cancel: &CancellationToken,
    ) -> Result<Vec<Swept>, SweepError> {
        match record.entry().cloud.as_str() {
            aws::CLOUD => self.aws.settle(record, how, cancel).await,
            template::CLOUD => {
                let build = record.entry().build.to_string();
                let settled = self.templates.settle(record, how == How::DryRun, cancel).await;
                settled.map(|settled| swept(&build, settled)).map_err(|error| unsettled(&build, &error))
            }
            _ => Err(SweepError::UnknownAccess {
                build: record.entry().build.to_string(),
                region: record.entry().region.clone(),
                path: record.path().display().to_string(),
            }),
        }
    }

    /// Who launches machines for this target.
    pub fn launcher(&self, target: &VmTarget) -> Box<dyn VmLauncher> {
        match target {
            VmTarget::Qemu(spec) => Box::new(self.local.launcher(spec.clone())),
            VmTarget::Aws(spec) => Box::new(self.aws.launcher(spec.clone())),
        }
    }

    /// Who builds images for this target.
    pub fn builder(&self, target: &Target) -> Box<dyn ImageBuilder> {
        match target {
            Target::Qemu(spec) => Box::new(self.local.builder(spec.clone())),
            Target::Aws(spec) => {
                let (runner, packer) = (self.local.runner.clone(), self.local.packer.clone());
                let tools = Tools { runner, packer, cache_dir: self.local.cache_dir.clone() };
                Box::new(self.aws.builder(spec.clone(), tools))
            }
            Target::Template(spec) => Box::new(self.templates.builder(spec.clone())),
        }
    }
}

/// What became of a template's build, in the words of a sweep.
fn swept(build: &str, settled: Settled) -> Vec<Swept> {
    let remain = |id| Remain { kind: Kind::Image, id, region: template::REGION.into(), build: build.into() };
    let done = settled.completed.map(|id| Swept::Completed(remain(id)));
    let deleted = settled.deleted.into_iter().map(|id| Swept::Removed(remain(id)));
    let unseen = |what| Swept::Left {
        build: build.to_owned(),
        region: template::REGION.to_owned(),
        why: SweepError::Unseen { what },
    };
    done.into_iter().chain(deleted).chain(settled.unseen.into_iter().map(unseen)).collect()
}

fn unsettled(build: &str, error: &BackendError) -> SweepError {
    SweepError::Stays { what: format!("what build {build} of a template made"), why: causes(error) }
}

/// What an import is given: `CLOUD/ID`, and for a cloud with regions `CLOUD/REGION/ID`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportId<'a> {
    /// The cloud, as it stands in state.
    pub cloud: &'a str,
    /// The region, where the cloud has some.
    pub region: Option<&'a str>,
    /// The object's own id.
    pub id: &'a str,
}

impl<'a> ImportId<'a> {
    /// Reads it; none when it is nothing of the kind.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (cloud, rest) = text.split_once('/')?;
        let parsed = match cloud {
            qemu::CLOUD => Self { cloud, region: None, id: rest },
            aws::CLOUD => {
                let (region, id) = rest.split_once('/')?;
                aws::model::region(region).ok()?;
                Self { cloud, region: Some(region), id }
            }
            _ => return None,
        };
        (!parsed.id.is_empty() && !parsed.id.contains('/')).then_some(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_imported_says_where_it_is() {
        let parsed = |cloud, region, id| Some(ImportId { cloud, region, id });
        assert_eq!(ImportId::parse("qemu/x"), parsed("qemu", None, "x"));
        assert_eq!(ImportId::parse("aws/us-west-2/i-1"), parsed("aws", Some("us-west-2"), "i-1"));
        for wrong in ["", "x", "qemu/", "qemu/a/b", "aws/i-1", "aws/here/i-1", "aws/us-west-2/", "other/x"] {
            assert_eq!(ImportId::parse(wrong), None, "{wrong}");
        }
    }
}
