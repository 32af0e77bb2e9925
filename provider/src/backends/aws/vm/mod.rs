//! Machines on EC2: an instance, with a key pair and a security group of its own.
//!
//! Every launch has a UUID, which is in the journal and in state before the first call that makes something, is the token
//! that makes RunInstances idempotent, and is a tag on all that is made: whatever becomes of a launch, it is found.

mod change;
mod create;
mod destroy;
mod error;
mod files;
pub(super) mod launch;
mod lost;
mod settings;
mod spec;
pub(super) mod status;
pub(super) mod surroundings;
pub(super) mod up;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub use error::VmError;
pub use spec::{AwsVmSpec, RootVolume, names_profile};

pub(super) use self::files::Files;
use super::Aws;
use super::region::{Region, is_gone};
use crate::domain::vm_spec::PowerState;
use crate::domain::{
    BackendError, Exists, Vm, VmBackend, VmLauncher, VmRequest, unless_cancelled, with_grace,
};

/// What the id of a machine begins with while it is not known whether there is an instance; the launch follows.
pub(super) const LAUNCH: &str = "launch-";

/// The port on which SSH listens when the user does not say.
const SSH_PORT: u16 = 22;

/// What a request that is under way gets when a machine is no longer to be destroyed.
const LAST_REQUEST: Duration = Duration::from_secs(2);

/// The machines of one region.
#[derive(Debug)]
pub struct AwsVms {
    aws: Arc<Aws>,
    region: Option<String>,
}

/// Launches and changes machines of one shape.
#[derive(Debug)]
pub struct AwsLauncher {
    aws: Arc<Aws>,
    spec: AwsVmSpec,
}

impl Aws {
    /// The machines of a region.
    pub fn vms(self: &Arc<Self>, region: Option<&str>) -> AwsVms {
        AwsVms { aws: Arc::clone(self), region: region.map(str::to_owned) }
    }

    /// Who launches machines of this shape.
    pub fn launcher(self: &Arc<Self>, spec: AwsVmSpec) -> AwsLauncher {
        AwsLauncher { aws: Arc::clone(self), spec }
    }

    pub(super) fn files(&self, launch: &str) -> Files {
        Files::of(&self.data_dir, launch)
    }
}

#[async_trait]
impl VmLauncher for AwsLauncher {
    async fn create(
        &self,
        request: &VmRequest,
        exists: &mut Exists<'_>,
        cancel: &CancellationToken,
    ) -> Result<Vm, BackendError> {
        let doing = format!("launching machine {}", request.spec.name);
        let region = self.aws.region_for(self.spec.region.as_deref(), &doing);
        let region = unless_cancelled(&doing, region, cancel).await?;
        let created = create::create(&self.aws, &region, &self.spec, request, exists, cancel).await;
        created.map_err(|error| error.into_backend(&doing))
    }

    async fn update(
        &self,
        id: &str,
        request: &VmRequest,
        cancel: &CancellationToken,
    ) -> Result<Vm, BackendError> {
        let doing = format!("changing machine {id}");
        let region = self.aws.region_for(self.spec.region.as_deref(), &doing);
        let region = unless_cancelled(&doing, region, cancel).await?;
        let change = Box::pin(change::change(&self.aws, &region, id, &self.spec, request, cancel));
        let changed = with_grace(status::LAST_WORDS, change, cancel).await;
        changed.unwrap_or(Err(VmError::Cancelled)).map_err(|error| error.into_backend(&doing))
    }
}

#[async_trait]
impl VmBackend for AwsVms {
    async fn get(&self, id: &str) -> Result<Vm, BackendError> {
        let doing = format!("reading machine {id}");
        let failed = |error: super::AwsError| error.into_backend(doing.as_str());
        let region = self.aws.region_for(self.region.as_deref(), &doing).await?;
        if let Some(launch) = id.strip_prefix(LAUNCH) {
            // Whether or not there is an instance: what was made for it stays in state until it is removed.
            let found = region.launched(launch).await.map_err(failed)?;
            let vm =
                found.map_or_else(|| unfinished(&region, id), |instance| status::view(&region, &instance));
            return Ok(Vm { id: id.to_owned(), ..vm });
        }
        match region.instance(id).await.map_err(failed)? {
            Some(instance) if !is_gone(&instance) => {
                let seen = surroundings::seen(&region, &instance).await.map_err(failed)?;
                Ok(Vm { surroundings: Some(seen), ..status::view(&region, &instance) })
            }
            gone => {
                let id = id.to_owned();
                let left = surroundings::left_of(&region, &id, gone.as_ref()).await.map_err(failed)?;
                // Reading neither waits for its end nor removes anything.
                if left {
                    Err(BackendError::Ended {
                        kind: "machine",
                        id,
                        reason: gone.as_ref().and_then(status::reason),
                    })
                } else {
                    Err(BackendError::NotFound { kind: "machine", id })
                }
            }
        }
    }

    async fn inputs(&self, _id: &str) -> Result<Value, BackendError> {
        // A configuration does not fit into tags: an import starts from what the instance itself tells.
        Ok(Value::Null)
    }

    async fn destroy(&self, id: &str, cancel: &CancellationToken) -> Result<(), BackendError> {
        let doing = format!("destroying machine {id}");
        let region =
            unless_cancelled(&doing, self.aws.region_for(self.region.as_deref(), &doing), cancel).await?;
        let destroy = destroy::destroy(&self.aws, &region, id, cancel);
        let destroyed = with_grace(LAST_REQUEST, destroy, cancel).await;
        destroyed.unwrap_or(Err(VmError::Cancelled)).map_err(|error| error.into_backend(&doing))
    }
}

/// A launch of which there is no instance (yet).
fn unfinished(region: &Region, id: &str) -> Vm {
    Vm {
        id: id.to_owned(),
        region: region.name.clone(),
        name: String::new(),
        image_id: String::new(),
        status: PowerState::Stopped,
        public_ip: None,
        private_ip: None,
        ssh_host: None,
        login: None,
        console_log_path: None,
        size: None,
        tags: std::collections::BTreeMap::new(),
        surroundings: None,
    }
}
