//! The plan engine: from what the host proposes to what is planned, by the rules that hosts enforce.
//! Must not know the wire, nor any resource; a resource refines a plan through [`Plan`].

mod applied;
mod defaults;
mod nested;
mod replace;
#[cfg(test)]
mod tests;
mod unknown;
mod valid;

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

pub(crate) use applied::check_applied;

use crate::diag::Diagnostics;
use crate::model::{self, Model};
use crate::path::Path;
use crate::schema::{Schema, write_only_to_null};
use crate::value::Value;

/// What a plan starts from, all of the schema's type.
#[derive(Debug, Clone)]
#[doc(hidden)]
pub struct PlanInput {
    /// The stored object, or null.
    pub(crate) prior: Value,
    /// The host's merge of configuration and stored object.
    pub(crate) proposed: Value,
    /// What the user wrote.
    pub(crate) config: Value,
    /// The provider's own bytes as stored.
    pub(crate) prior_private: Vec<u8>,
}

/// A plan in the making, as [`crate::Resource::plan`] sees it.
///
/// When the resource sees it, defaults are applied and, if anything differs from the stored object, every
/// computed attribute that the user left null and that is not `keep_prior` is unknown. The resource may set
/// those to what it knows. If it makes a change of its own where there was none, it makes unknown what that change will
/// compute anew.
#[derive(Debug)]
pub struct Plan<M> {
    draft: Draft,
    model: PhantomData<fn() -> M>,
}

/// A plan without its model, for who refines a part of it and does not know the whole.
#[derive(Debug)]
pub struct Draft {
    engine: Engine,
}

impl<M: Model> Plan<M> {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { draft: Draft { engine }, model: PhantomData }
    }

    pub(crate) fn into_engine(self) -> Engine {
        self.draft.engine
    }

    /// The plan as it is now.
    ///
    /// # Errors
    /// If the value does not fit the model, which [`Draft::set`] with a wrong type can bring about.
    pub fn model(&self) -> Result<M, Diagnostics> {
        model::decode(&self.draft.engine.planned)
    }
}

impl<M> Deref for Plan<M> {
    type Target = Draft;

    fn deref(&self) -> &Draft {
        &self.draft
    }
}

impl<M> DerefMut for Plan<M> {
    fn deref_mut(&mut self) -> &mut Draft {
        &mut self.draft
    }
}

impl Draft {
    /// The planned value at `path`; `None` if there is no such place.
    pub fn get(&self, path: impl Into<Path>) -> Option<&Value> {
        self.engine.planned.at(&path.into())
    }

    /// The stored value at `path`; `None` if there is no object or no such place.
    pub fn prior(&self, path: impl Into<Path>) -> Option<&Value> {
        self.engine.input.prior.at(&path.into())
    }

    /// Plans a value for a computed attribute that the user left null. Anything else is refused when the
    /// plan is checked.
    pub fn set(&mut self, path: impl Into<Path>, value: impl Into<Value>) {
        self.engine.set(path.into(), value.into());
    }

    /// Plans a computed attribute as known after apply.
    pub fn unknown(&mut self, path: impl Into<Path>) {
        self.set(path, Value::Unknown);
    }

    /// Plans a computed attribute as it is stored.
    pub fn keep(&mut self, path: impl Into<Path>) {
        let path = path.into();
        let prior = self.engine.input.prior.at(&path).cloned().unwrap_or_default();
        self.set(path, prior);
    }

    /// Plans those of these attributes as they are stored that are null there.
    pub fn keep_nulls(&mut self, names: &[&str]) {
        for name in names {
            if self.prior(*name).is_some_and(Value::is_null) {
                self.keep(*name);
            }
        }
    }

    /// Says that the change at `path` can only be made by replacing the object. Does nothing if there is no
    /// change at `path`, or no object yet.
    pub fn require_replace(&mut self, path: impl Into<Path>) {
        self.engine.require_replace.insert(path.into());
    }

    /// Whether the plan, as it is so far, can only be carried out by replacing the object.
    pub fn is_replacement(&self) -> bool {
        self.engine.is_replacement()
    }
}

/// What became of a plan.
#[derive(Debug)]
#[doc(hidden)]
pub struct Planned {
    pub(crate) state: Value,
    pub(crate) requires_replace: Vec<Path>,
    pub(crate) private: Vec<u8>,
}

/// The engine's state while a resource refines the plan.
#[derive(Debug)]
pub(crate) struct Engine {
    schema: Arc<Schema>,
    input: PlanInput,
    planned: Value,
    require_replace: BTreeSet<Path>,
    /// Places that the resource named and that the plan does not have.
    nowhere: Vec<Path>,
}

impl Engine {
    /// Makes the plan of a creation or an update; destruction needs none.
    pub(crate) fn new(schema: Arc<Schema>, input: PlanInput) -> Self {
        let mut planned = input.proposed.clone();
        defaults::apply(&schema.attributes, &input.config, &mut planned);
        write_only_to_null(&schema.attributes, &mut planned);
        if planned != input.prior {
            unknown::mark(&schema.attributes, &input.config, &input.prior, &mut planned);
        }
        Self { schema, input, planned, require_replace: BTreeSet::new(), nowhere: Vec::new() }
    }

    fn set(&mut self, path: Path, value: Value) {
        match self.planned.at_mut(&path) {
            Some(place) => *place = value,
            None => self.nowhere.push(path),
        }
    }

    fn is_replacement(&self) -> bool {
        let Self { schema, input, planned, require_replace, .. } = self;
        !replace::changed(&schema.attributes, &input.prior, planned, require_replace).is_empty()
    }

    /// Checks the plan as the host will, and finds what requires replacement.
    pub(crate) fn finish(self, diags: &mut Diagnostics) -> Option<Planned> {
        for path in &self.nowhere {
            valid::internal_error(diags, path, "the provider set an attribute that the plan does not have");
        }
        let planned = match self.schema.ty().conform(self.planned) {
            Ok(planned) => planned,
            Err(error) => {
                valid::internal_error(diags, &Path::root(), &error.to_string());
                return None;
            }
        };
        valid::check(&self.schema.attributes, &self.input, &planned, diags);
        if diags.has_errors() {
            return None;
        }
        let requires_replace =
            replace::changed(&self.schema.attributes, &self.input.prior, &planned, &self.require_replace);
        Some(Planned { state: planned, requires_replace, private: self.input.prior_private })
    }
}
