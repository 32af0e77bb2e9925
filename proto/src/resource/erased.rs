//! Resources of any model, side by side: values in, values out.
//! Keeps the promises on state: what an operation left is returned beside its error or panic.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use super::{
    CreateRequest, DeleteRequest, MovedFrom, PlanRequest, ReadRequest, Resource, StateSink, UpdateRequest,
};
use crate::diag::{Diagnostic, Diagnostics};
use crate::model::{self, Model};
use crate::plan::{Engine, Plan, PlanInput, Planned, check_applied};
use crate::schema::{Schema, write_only_to_null};
use crate::value::Value;

/// A resource of any model. Implemented for every [`Resource`].
#[async_trait]
pub trait DynResource: Send + Sync + 'static {
    /// Its type without the provider's prefix.
    fn name(&self) -> &'static str;

    /// Its schema.
    fn schema(&self) -> Schema;

    #[doc(hidden)]
    async fn validate(&self, config: &Value, diags: &mut Diagnostics);

    #[doc(hidden)]
    async fn plan(
        &self,
        schema: Arc<Schema>,
        input: PlanInput,
        cancel: CancellationToken,
        diags: &mut Diagnostics,
    ) -> Option<Planned>;

    #[doc(hidden)]
    async fn apply(&self, schema: Arc<Schema>, input: ApplyInput) -> Applied;

    #[doc(hidden)]
    async fn read(&self, input: ReadInput, diags: &mut Diagnostics) -> Result<Option<Stored>, Diagnostics>;

    #[doc(hidden)]
    async fn import(&self, id: &str) -> Result<Stored, Diagnostics>;

    #[doc(hidden)]
    async fn take_over(&self, source: MovedFrom) -> Result<Option<Stored>, Diagnostics>;

    #[doc(hidden)]
    async fn upgrade(&self, version: i64, state: Value) -> Result<Value, Diagnostics>;

    #[doc(hidden)]
    fn stored(&self, state: &Value);
}

/// What an apply starts from.
#[doc(hidden)]
#[derive(Debug)]
pub struct ApplyInput {
    /// The stored object, or null.
    pub(crate) prior: Value,
    /// The planned object, or null.
    pub(crate) planned: Value,
    /// What the user wrote, or null.
    pub(crate) config: Value,
    /// The bytes that the plan left.
    pub(crate) private: Vec<u8>,
    /// Fires when the user interrupts.
    pub(crate) cancel: CancellationToken,
}

/// What a read starts from.
#[doc(hidden)]
#[derive(Debug)]
pub struct ReadInput {
    /// The stored object.
    pub(crate) state: Value,
    /// The provider's own bytes.
    pub(crate) private: Vec<u8>,
    /// Fires when the user interrupts.
    pub(crate) cancel: CancellationToken,
}

/// An object's state and the provider's own bytes.
#[doc(hidden)]
#[derive(Debug)]
pub struct Stored {
    /// The attributes.
    pub(crate) state: Value,
    /// `None` keeps what was stored.
    pub(crate) private: Option<Vec<u8>>,
}

/// What an apply left, be it a success or not.
#[doc(hidden)]
#[derive(Debug)]
pub struct Applied {
    /// The object; null if there is none.
    pub(crate) state: Value,
    /// The provider's own bytes.
    pub(crate) private: Vec<u8>,
    /// What to tell the user.
    pub(crate) diags: Diagnostics,
}

#[async_trait]
impl<R: Resource> DynResource for R {
    fn name(&self) -> &'static str {
        Resource::name(self)
    }

    fn schema(&self) -> Schema {
        Schema::of::<R::Model>(self.version())
    }

    async fn validate(&self, config: &Value, diags: &mut Diagnostics) {
        match model::decode(config) {
            Ok(config) => Resource::validate(self, &config, diags).await,
            Err(errors) => diags.extend(errors),
        }
    }

    async fn plan(
        &self,
        schema: Arc<Schema>,
        input: PlanInput,
        cancel: CancellationToken,
        diags: &mut Diagnostics,
    ) -> Option<Planned> {
        let private = input.prior_private.clone();
        let prior: Option<R::Model> = told(decode_optional(&input.prior), diags)?;
        if input.proposed.is_null() {
            return Some(Planned { state: Value::Null, requires_replace: Vec::new(), private });
        }
        let config: R::Model = told(model::decode(&input.config), diags)?;
        let mut plan = Plan::new(Engine::new(schema, input));
        let request = PlanRequest { prior: prior.as_ref(), config: &config, prior_private: &private, cancel };
        Resource::plan(self, request, &mut plan, diags).await;
        if diags.has_errors() {
            return None;
        }
        plan.into_engine().finish(diags)
    }

    async fn apply(&self, schema: Arc<Schema>, input: ApplyInput) -> Applied {
        if input.planned.is_null() { delete(self, input).await } else { change(self, &schema, input).await }
    }

    async fn read(&self, input: ReadInput, diags: &mut Diagnostics) -> Result<Option<Stored>, Diagnostics> {
        let state = model::decode(&input.state)?;
        let request = ReadRequest { state, private: input.private, cancel: input.cancel };
        let state = Resource::read(self, request, diags).await?;
        Ok(state.map(|state| Stored { state: state.model.encode(), private: state.private }))
    }

    async fn import(&self, id: &str) -> Result<Stored, Diagnostics> {
        let state = Resource::import(self, id).await?;
        Ok(Stored { state: state.model.encode(), private: state.private })
    }

    async fn take_over(&self, source: MovedFrom) -> Result<Option<Stored>, Diagnostics> {
        let state = Resource::take_over(self, source).await?;
        Ok(state.map(|state| Stored { state: state.model.encode(), private: state.private }))
    }

    async fn upgrade(&self, version: i64, state: Value) -> Result<Value, Diagnostics> {
        Resource::upgrade(self, version, state).await
    }

    fn stored(&self, state: &Value) {
        // State that does not fit is told of where it is used.
        if let Ok(state) = model::decode(state) {
            Resource::stored(self, &state);
        }
    }
}

/// Creates or updates. What the operation left in its sink is the state, whatever became of the operation.
async fn change<R: Resource>(resource: &R, schema: &Schema, input: ApplyInput) -> Applied {
    let mut diags = Diagnostics::new();
    let sink = StateSink::new();
    let (prior, planned, private) = (input.prior.clone(), input.planned.clone(), input.private.clone());
    let run = run_change(resource, input, sink.share(), &mut diags);
    let outcome = AssertUnwindSafe(run).catch_unwind().await;
    tell(outcome, &mut diags);
    let kept = sink.take();
    let state = match kept.model {
        Some(model) => settle(schema, &planned, model.encode(), prior.is_null(), &mut diags),
        None => {
            if !diags.has_errors() {
                let text = "The operation succeeded but left no state. This is a bug in the provider; please report it.";
                diags.push(Diagnostic::error("Provider returned no state", text));
            }
            prior
        }
    };
    Applied { state, private: kept.private.unwrap_or(private), diags }
}

async fn run_change<R: Resource>(
    resource: &R,
    input: ApplyInput,
    mut sink: StateSink<R::Model>,
    diags: &mut Diagnostics,
) -> Result<(), Diagnostics> {
    let prior = decode_optional(&input.prior)?;
    let planned = model::decode(&input.planned)?;
    let config = model::decode(&input.config)?;
    let ApplyInput { private, cancel, .. } = input;
    match prior {
        None => resource.create(CreateRequest { planned, config, private, cancel }, &mut sink, diags).await,
        Some(prior) => {
            let request = UpdateRequest { prior, planned, config, private, cancel };
            resource.update(request, &mut sink, diags).await
        }
    }
}

async fn delete<R: Resource>(resource: &R, input: ApplyInput) -> Applied {
    let mut diags = Diagnostics::new();
    let ApplyInput { prior: state, private, cancel, .. } = input;
    let run = async {
        match decode_optional(&state)? {
            Some(prior) => {
                let request = DeleteRequest { prior, private: private.clone(), cancel };
                resource.delete(request, &mut diags).await
            }
            None => Ok(()),
        }
    };
    let outcome = AssertUnwindSafe(run).catch_unwind().await;
    tell(outcome, &mut diags);
    if diags.has_errors() {
        return Applied { state, private, diags };
    }
    Applied { state: Value::Null, private: Vec::new(), diags }
}

/// Brings what an operation left into the form that hosts take, and checks it if the operation succeeded.
/// Even a wrong result is stored, so that the object is not lost.
fn settle(schema: &Schema, planned: &Value, left: Value, is_new: bool, diags: &mut Diagnostics) -> Value {
    let ty = schema.ty();
    let mut state = match ty.conform(left) {
        Ok(state) => state,
        Err(error) => {
            let text = format!("{error}. This is a bug in the provider; please report it.");
            diags.push(Diagnostic::error("Provider returned an invalid state", text));
            return planned.clone().unknown_to_null();
        }
    };
    write_only_to_null(&schema.attributes, &mut state);
    if !diags.has_errors() {
        check_applied(ty, planned, &state, is_new, diags);
    }
    state.unknown_to_null()
}

fn decode_optional<M: Model>(value: &Value) -> Result<Option<M>, Diagnostics> {
    if value.is_null() { Ok(None) } else { model::decode(value).map(Some) }
}

fn told<T>(result: Result<T, Diagnostics>, diags: &mut Diagnostics) -> Option<T> {
    result.map_err(|errors| diags.extend(errors)).ok()
}

fn tell(outcome: Result<Result<(), Diagnostics>, Box<dyn Any + Send>>, diags: &mut Diagnostics) {
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(errors)) => diags.extend(errors),
        Err(panic) => diags.push(panicked(&*panic)),
    }
}

/// What to tell the user of a panic.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Diagnostic {
    let message =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let message = message.unwrap_or("no message");
    let text = format!("The provider panicked: {message}. This is a bug in the provider; please report it.");
    Diagnostic::error("Provider bug", text)
}
