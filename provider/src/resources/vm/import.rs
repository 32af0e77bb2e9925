//! Taking a machine into state that is there already.

use std::collections::BTreeMap;

use tfplugin::{Attr, CancellationToken, Diagnostic, Diagnostics, State};

use super::VmResource;
use super::model::VmModel;
use super::private::Private;
use super::read::READ;
use crate::backends::{CLOUDS, ImportId, LOCAL};
use crate::diagnose;
use crate::domain::BackendError;
use crate::resources::deadline::Time;
use crate::resources::{account, inputs};

impl VmResource {
    pub(super) async fn import_machine(&self, id: &str) -> Result<State<VmModel>, Diagnostics> {
        let backends = self.provider.require()?;
        let failed = |error: BackendError| diagnose::backend("Machine not imported", &error);
        let wrong = || {
            let text = format!(
                "{id:?} is not what can be imported: write {}.",
                CLOUDS.iter().map(|cloud| cloud.machine_id).collect::<Vec<_>>().join(" or ")
            );
            Diagnostic::error("Invalid import id", text)
        };
        let ImportId { cloud, region, id } = ImportId::parse(id).ok_or_else(wrong)?;
        let backend = backends.vms(cloud, region).ok_or_else(wrong)?;
        let vm = backend.get(id).await.map_err(failed)?;
        let kept = backend.inputs(id).await.map_err(failed)?;
        let imported = kept.is_null();
        let mut model = if imported { VmModel::imported(&vm, cloud) } else { inputs::restore(&kept)? };
        // In a cloud, which of the tags are the user's is only known by the configuration.
        let tags = if imported { BTreeMap::new() } else { backends.tagging.managed(vm.tags.clone()) };
        model.tags_all = Attr::Known(tags);
        let store = backends.local.store.id().ok().flatten();
        model.observe(&vm, cloud, store.filter(|_| cloud == LOCAL));
        let time = Time::of(&CancellationToken::new(), READ, "read");
        let account = account::current(&backends, cloud, &time).await;
        Ok(State { model, private: Some(Private { imported, account }.write()) })
    }
}
