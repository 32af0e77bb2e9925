//! `sindri_vm`: the lifecycle of a machine, the same for every backend.

mod import;
mod login;
pub mod model;
mod observe;
mod plan;
mod plan_local;
mod private;
mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::Utc;
use model::VmModel;
use private::Private;
use tfplugin::{
    Attr, CancellationToken, CreateRequest, DeleteRequest, Diagnostics, Operation, Plan, PlanRequest,
    ReadRequest, Resource, State, StateSink, Timeouts, UpdateRequest,
};

use super::deadline::{Failure, Time};
use super::{account, inputs};
use crate::backends::{Backends, LOCAL};
use crate::configured::Configured;
use crate::diagnose;
use crate::domain::{Vm, VmBackend, VmLauncher, VmRequest};

/// How long create and update may take when the user does not say.
const LAUNCH: Duration = Duration::from_secs(10 * 60);

/// How long delete may take when the user does not say.
const DELETE: Duration = Duration::from_secs(5 * 60);

/// The resource.
#[derive(Debug)]
pub struct VmResource {
    provider: Arc<Configured>,
}

impl VmResource {
    /// The resource of a provider.
    pub fn new(provider: Arc<Configured>) -> Self {
        Self { provider }
    }

    /// Who runs the machine that state names.
    fn backend(backends: &Backends, model: &VmModel) -> Result<Arc<dyn VmBackend>, Diagnostics> {
        let cloud = cloud_of(model);
        backends.vms(cloud, model.region.known_deref()).ok_or_else(|| diagnose::unknown_backend(cloud).into())
    }

    /// What is asked for; `prior` is the machine as it is in state, if it is there already.
    fn request(
        backends: &Backends,
        planned: &VmModel,
        config: &VmModel,
        prior: Option<&VmModel>,
        limit: Duration,
        stop: &CancellationToken,
    ) -> VmRequest {
        let tagging = &backends.tagging;
        let managed = prior.and_then(|prior| prior.tags_all.known().cloned()).map(|all| tagging.managed(all));
        let tags = if prior.is_none() { planned.all_tags(tagging) } else { planned.managed_tags(tagging) };
        VmRequest {
            spec: planned.spec(config, &tags),
            image_id: planned.image_id.clone().unwrap_or_default(),
            inputs: inputs::store(planned),
            managed_tags: managed.into_iter().flat_map(BTreeMap::into_keys).collect(),
            deadline: Utc::now() + limit,
            stop: stop.clone(),
        }
    }

    /// Who launches and changes machines as planned; `prior` is where the machine is, if it is there already.
    fn launcher(
        backends: &Backends,
        planned: &VmModel,
        prior: Option<&VmModel>,
    ) -> Result<Box<dyn VmLauncher>, Diagnostics> {
        let Attr::Known(section) = planned.section() else {
            return Err(planned.not_one("No backend").into());
        };
        Ok(section.launcher(backends, prior.and_then(|prior| prior.region.known_deref())))
    }
}

/// The cloud that state names.
fn cloud_of(model: &VmModel) -> &str {
    model.cloud.known_deref().unwrap_or(LOCAL)
}

/// The local store's id, for a machine that is kept there.
async fn store_of(backends: &Backends, model: &VmModel, time: &Time) -> Result<Option<String>, Diagnostics> {
    if model.configured_cloud() != LOCAL {
        return Ok(None);
    }
    let store = time.run(|cancel| async move { backends.local.ensure_id(&cancel).await });
    store.await.map(Some).map_err(|failure| failure.diagnostic("Local store not usable", "create").into())
}

#[async_trait]
impl Resource for VmResource {
    type Model = VmModel;

    fn name(&self) -> &'static str {
        "vm"
    }

    async fn validate(&self, config: &VmModel, diags: &mut Diagnostics) {
        config.validate(diags);
    }

    async fn plan(
        &self,
        request: PlanRequest<'_, VmModel>,
        plan: &mut Plan<VmModel>,
        diags: &mut Diagnostics,
    ) {
        let backends = self.provider.backends();
        if let Err(errors) = plan::plan_machine(backends.as_deref(), &request, plan, diags) {
            diags.extend(errors);
        }
    }

    async fn create(
        &self,
        request: CreateRequest<VmModel>,
        state: &mut StateSink<VmModel>,
        _diags: &mut Diagnostics,
    ) -> Result<(), Diagnostics> {
        let backends = self.provider.require()?;
        let limit = Timeouts::of(&request.planned.timeouts, Operation::Create, LAUNCH);
        let time = Time::of(&request.cancel, limit, "create");
        let store = store_of(&backends, &request.planned, &time).await?;
        let cloud = request.planned.configured_cloud();
        let mut model = request.planned.clone();
        model.tags_all = Attr::Known(model.managed_tags(&backends.tagging));
        let machine =
            Self::request(&backends, &request.planned, &request.config, None, limit, &request.cancel);
        let account = account::current(&backends, cloud, &time).await;
        state.set_private(Private { imported: false, account }.write());
        let mut record = |vm: &Vm| {
            let mut model = model.clone();
            model.observe(vm, cloud, store.clone());
            state.set(model);
        };
        let launcher = Self::launcher(&backends, &request.planned, None)?;
        let launched = time.run(|cancel| {
            let (launcher, machine, record) = (&launcher, &machine, &mut record);
            async move { launcher.create(machine, record, &cancel).await }
        });
        let vm = launched.await.map_err(|failure| failure.diagnostic("Machine not created", "create"))?;
        record(&vm);
        Ok(())
    }

    async fn read(
        &self,
        request: ReadRequest<VmModel>,
        diags: &mut Diagnostics,
    ) -> Result<Option<State<VmModel>>, Diagnostics> {
        self.read_machine(request, diags).await
    }

    async fn update(
        &self,
        request: UpdateRequest<VmModel>,
        state: &mut StateSink<VmModel>,
        diags: &mut Diagnostics,
    ) -> Result<(), Diagnostics> {
        let backends = self.provider.require()?;
        request.prior.object().is_here(&backends)?;
        let private = Private { imported: false, ..Private::read(&request.private) };
        let limit = Timeouts::of(&request.planned.timeouts, Operation::Update, LAUNCH);
        let time = Time::of(&request.cancel, limit, "update");
        request.prior.object().check_account(&backends, private.account.as_deref(), &time).await?;
        let mut model = request.planned.clone();
        model.tags_all = Attr::Known(model.managed_tags(&backends.tagging));
        let id = model.id.clone().unwrap_or_default();
        let store = model.store_id.known().cloned();
        let prior = Some(&request.prior);
        let machine =
            Self::request(&backends, &request.planned, &request.config, prior, limit, &request.cancel);
        let launcher = Self::launcher(&backends, &request.planned, prior)?;
        let updated = time.run(|cancel| {
            let (launcher, machine, id) = (&launcher, &machine, &id);
            async move { launcher.update(id, machine, &cancel).await }
        });
        let vm = updated.await.map_err(|failure| failure.diagnostic("Machine not changed", "update"))?;
        let mut now = model.clone();
        now.observe(&vm, request.planned.configured_cloud(), store);
        diags.extend(model.take_over(now));
        state.set_private(private.write());
        state.set(model);
        Ok(())
    }

    async fn delete(
        &self,
        request: DeleteRequest<VmModel>,
        _diags: &mut Diagnostics,
    ) -> Result<(), Diagnostics> {
        let backends = self.provider.require()?;
        let Some(id) = request.prior.id.known() else { return Ok(()) };
        if !request.prior.object().is_here(&backends)? {
            return Ok(());
        }
        let limit = Timeouts::of(&request.prior.timeouts, Operation::Delete, DELETE);
        let time = Time::of(&request.cancel, limit, "delete");
        let account = Private::read(&request.private).account;
        request.prior.object().check_account(&backends, account.as_deref(), &time).await?;
        let backend = Self::backend(&backends, &request.prior)?;
        let destroyed = time.run(|cancel| {
            let backend = &backend;
            async move { backend.destroy(id, &cancel).await }
        });
        match destroyed.await {
            Err(Failure { error, .. }) if error.is_not_found() => Ok(()),
            other => other.map_err(|failure| failure.diagnostic("Machine not destroyed", "delete").into()),
        }
    }

    async fn import(&self, id: &str) -> Result<State<VmModel>, Diagnostics> {
        self.import_machine(id).await
    }
}
