//! Where create and update leave the state, safe from their failing or panicking afterwards.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Takes the state of an object while an operation works on it. The last one set is stored, come what may.
#[derive(Debug)]
pub struct StateSink<M> {
    kept: Arc<Mutex<Kept<M>>>,
}

/// What an operation left.
#[derive(Debug)]
pub(crate) struct Kept<M> {
    pub(crate) model: Option<M>,
    pub(crate) private: Option<Vec<u8>>,
}

impl<M> StateSink<M> {
    pub(crate) fn new() -> Self {
        Self { kept: Arc::new(Mutex::new(Kept { model: None, private: None })) }
    }

    /// A second handle on the same place, which outlives a panic of the first's owner.
    pub(crate) fn share(&self) -> Self {
        Self { kept: Arc::clone(&self.kept) }
    }

    /// Stores the object as it is now.
    pub fn set(&mut self, model: M) {
        self.lock().model = Some(model);
    }

    /// Changes what was stored last.
    pub fn change(&mut self, change: impl FnOnce(&mut M)) {
        if let Some(model) = &mut self.lock().model {
            change(model);
        }
    }

    /// Stores bytes that only the provider sees.
    pub fn set_private(&mut self, private: Vec<u8>) {
        self.lock().private = Some(private);
    }

    /// What was set last.
    pub(crate) fn take(&self) -> Kept<M> {
        let mut kept = self.lock();
        Kept { model: kept.model.take(), private: kept.private.take() }
    }

    /// A panic cannot leave the two fields half written: a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Kept<M>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
