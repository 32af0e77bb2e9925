//! The resources. Diagnostics are made here and in the data sources, nowhere else.

pub mod account;
pub mod deadline;
pub mod diagnose;
pub mod image;
mod inputs;
pub mod vm;
