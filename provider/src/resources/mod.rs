//! The resources. Diagnostics are made here and in the data sources, of the parts in [`crate::diagnose`].

pub mod account;
pub mod deadline;
pub mod image;
mod inputs;
mod object;
pub mod vm;
