//! Looking at a machine: what became of it since.

use std::time::Duration;

use tfplugin::{Diagnostic, Diagnostics, Operation, ReadRequest, State, Timeouts};

use super::model::VmModel;
use super::private::Private;
use super::{VmResource, cloud_of};
use crate::diagnose;
use crate::domain::BackendError;
use crate::resources::account;
use crate::resources::deadline::{Failure, Time};

/// How long a look may take when the user does not say.
pub(super) const READ: Duration = Duration::from_secs(5 * 60);

impl VmResource {
    pub(super) async fn read_machine(
        &self,
        request: ReadRequest<VmModel>,
        diags: &mut Diagnostics,
    ) -> Result<Option<State<VmModel>>, Diagnostics> {
        let backends = self.provider.require()?;
        let (mut model, mut private) = (request.state, Private::read(&request.private));
        let Some(id) = model.id.known().cloned() else { return Ok(None) };
        let store = model.store_id.known().cloned();
        if !model.object().is_here(&backends)? {
            return Ok(None);
        }
        let backend = Self::backend(&backends, &model)?;
        let limit = Timeouts::of(&model.timeouts, Operation::Read, READ);
        let time = Time::of(&request.cancel, limit, "read");
        match time.look(&format!("reading machine {id}"), backend.get(&id)).await {
            Ok(vm) => {
                let cloud = cloud_of(&model).to_owned();
                model.observe(&vm, &cloud, store);
                model.observe_tags(&vm, &backends.tagging);
                if private.account.is_some() {
                    return Ok(Some(model.into()));
                }
                // Seen with these credentials, it is in their account.
                private.account = account::current(&backends, &cloud, &time).await;
                Ok(Some(State { model, private: Some(private.write()) }))
            }
            Err(Failure { error: BackendError::Ended { reason, .. }, .. }) => {
                let why = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
                let text = format!(
                    "Machine {id} was ended{why}. What was made for it, a key pair or a security group, is still there: the plan replaces the machine, and removes that with it."
                );
                diags.push(Diagnostic::warning("Machine is gone", text));
                model.end();
                Ok(Some(model.into()))
            }
            Err(failure) if failure.error.is_not_found() => {
                model.object().check_account(&backends, private.account.as_deref(), &time).await?;
                Ok(None)
            }
            // It may still run: the state keeps it, so that it can be replaced or destroyed.
            Err(Failure { error: BackendError::Damaged { source, .. }, .. }) => {
                let text = format!(
                    "{}\nThe state keeps it as it was last seen. Make it anew with `-replace`, or destroy it.",
                    diagnose::chain(source.as_ref())
                );
                diags.push(Diagnostic::warning("Damaged machine", text));
                Ok(Some(model.into()))
            }
            Err(failure) => Err(failure.diagnostic("Machine not readable", "read").into()),
        }
    }
}
