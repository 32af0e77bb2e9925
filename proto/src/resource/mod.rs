//! What a resource is: its model and what happens over its life.
//! Must not know the wire: `erased` turns typed resources into ones that the RPCs can hold side by side.

mod erased;
mod sink;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

pub use erased::DynResource;
pub(crate) use erased::{Applied, ApplyInput, ReadInput, panicked};
pub use sink::StateSink;

use crate::diag::{Diagnostic, Diagnostics};
use crate::model::Model;
pub use crate::plan::Plan;
use crate::value::Value;

/// A kind of object that the provider manages.
///
/// Every operation tells what is wrong through `Err` or by pushing onto `diags`; both count as a failure,
/// and both reach the user.
#[async_trait]
pub trait Resource: Send + Sync + 'static {
    /// Its schema and values.
    type Model: Model + Clone + Send + Sync + 'static;

    /// Its type without the provider's prefix: `"image"`.
    fn name(&self) -> &'static str;

    /// The version of the schema, to be raised when stored state needs [`Resource::upgrade`].
    fn version(&self) -> i64 {
        0
    }

    /// Checks what one attribute's own validators cannot. Unknown values are fine here. Runs also when
    /// validators found something, so that a user sees every mistake at once.
    async fn validate(&self, config: &Self::Model, diags: &mut Diagnostics) {
        let _ = (config, diags);
    }

    /// Refines the plan that the engine made: see [`Plan`] for what may be done.
    async fn plan(
        &self,
        request: PlanRequest<'_, Self::Model>,
        plan: &mut Plan<Self::Model>,
        diags: &mut Diagnostics,
    ) {
        let _ = (request, plan, diags);
    }

    /// Creates the object. Call [`StateSink::set`] as soon as something exists: what was set last is stored
    /// even if the operation then fails or panics, so that the object can be destroyed.
    async fn create(
        &self,
        request: CreateRequest<Self::Model>,
        state: &mut StateSink<Self::Model>,
        diags: &mut Diagnostics,
    ) -> Result<(), Diagnostics>;

    /// Reads the object as it is now; `None` if it is gone. May be dropped at any await.
    async fn read(
        &self,
        request: ReadRequest<Self::Model>,
        diags: &mut Diagnostics,
    ) -> Result<Option<State<Self::Model>>, Diagnostics>;

    /// Changes the object in place. What was set last is stored even if the operation then fails or panics;
    /// if nothing was set, a failure keeps the prior state.
    async fn update(
        &self,
        request: UpdateRequest<Self::Model>,
        state: &mut StateSink<Self::Model>,
        diags: &mut Diagnostics,
    ) -> Result<(), Diagnostics>;

    /// Removes the object; succeeds if it is gone already. A failure keeps the prior state.
    async fn delete(
        &self,
        request: DeleteRequest<Self::Model>,
        diags: &mut Diagnostics,
    ) -> Result<(), Diagnostics>;

    /// Finds an existing object by the id that a user gave. The host reads it afterwards. Dropped when the user interrupts, and
    /// may be at any await.
    async fn import(&self, id: &str) -> Result<State<Self::Model>, Diagnostics> {
        let _ = id;
        let text = "Objects of this type cannot be imported.";
        Err(Diagnostic::error("Import not supported", text).into())
    }

    /// Sees the state of an object that the host is about to work with, brought to the current schema. Hosts plan
    /// a replacement as a creation, possibly in a process that reads nothing: this is where a resource learns
    /// that there is an object already.
    fn stored(&self, state: &Self::Model) {
        let _ = state;
    }

    /// Takes over the state of an object of another type, which a `moved` block names; `None` when this type does not take
    /// over such objects. The host reads the object afterwards.
    async fn take_over(&self, source: MovedFrom) -> Result<Option<State<Self::Model>>, Diagnostics> {
        let _ = source;
        Ok(None)
    }

    /// Brings state of an older `version` to the current schema. Attributes that the result has too many are
    /// dropped, those that it lacks are null. Not called for state of the current version.
    async fn upgrade(&self, version: i64, state: Value) -> Result<Value, Diagnostics> {
        let _ = version;
        Ok(state)
    }
}

/// An object of another type, maybe of another provider.
#[derive(Debug, Clone, PartialEq)]
pub struct MovedFrom {
    /// That provider, such as `registry.terraform.io/hashicorp/null`.
    pub provider: String,
    /// The object's type there.
    pub type_name: String,
    /// The version of that type's schema.
    pub version: i64,
    /// The state as it was stored: objects, lists and scalars without types.
    pub state: Value,
}

/// An object's state, with bytes that only the provider sees.
#[derive(Debug, Clone)]
pub struct State<M> {
    /// The attributes.
    pub model: M,
    /// The provider's own bytes; `None` keeps what was stored.
    pub private: Option<Vec<u8>>,
}

impl<M> From<M> for State<M> {
    fn from(model: M) -> Self {
        Self { model, private: None }
    }
}

/// A creation or an update to be planned.
#[derive(Debug)]
pub struct PlanRequest<'a, M> {
    /// The stored object; `None` when it is to be created.
    pub prior: Option<&'a M>,
    /// What the user wrote.
    pub config: &'a M,
    /// The provider's own bytes as stored; empty when it is to be created.
    pub prior_private: &'a [u8],
    /// Fires when the user interrupts.
    pub cancel: CancellationToken,
}

impl<M> PlanRequest<'_, M> {
    /// Whether the object is to be created.
    pub fn is_create(&self) -> bool {
        self.prior.is_none()
    }
}

/// An object to be created.
#[derive(Debug)]
pub struct CreateRequest<M> {
    /// What was planned. Everything known in it must come true.
    pub planned: M,
    /// What the user wrote, now wholly known; the only place of write-only values.
    pub config: M,
    /// The bytes that the plan left.
    pub private: Vec<u8>,
    /// Fires when the user interrupts.
    pub cancel: CancellationToken,
}

/// An object to be read.
#[derive(Debug)]
pub struct ReadRequest<M> {
    /// The object as stored.
    pub state: M,
    /// The provider's own bytes as stored.
    pub private: Vec<u8>,
    /// Fires when the user interrupts.
    pub cancel: CancellationToken,
}

/// An object to be changed in place.
#[derive(Debug)]
pub struct UpdateRequest<M> {
    /// The object as stored.
    pub prior: M,
    /// What was planned. Everything known in it must come true.
    pub planned: M,
    /// What the user wrote, now wholly known; the only place of write-only values.
    pub config: M,
    /// The bytes that the plan left.
    pub private: Vec<u8>,
    /// Fires when the user interrupts.
    pub cancel: CancellationToken,
}

/// An object to be removed.
#[derive(Debug)]
pub struct DeleteRequest<M> {
    /// The object as stored.
    pub prior: M,
    /// The provider's own bytes as stored.
    pub private: Vec<u8>,
    /// Fires when the user interrupts.
    pub cancel: CancellationToken,
}
