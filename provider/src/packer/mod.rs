//! HashiCorp Packer as a program that somebody else installed: found, asked for its version, given a template and
//! values, run, and read.
//!
//! Knows nothing of images, clouds or the guest: what a template says and what becomes of an artifact is its caller's
//! business. Imports nothing but `process`.

mod build;
pub mod command;
mod error;
mod folder;
#[cfg(test)]
pub(crate) mod formatted;
mod go_template;
mod init;
mod known;
mod locate;
pub mod output;
mod recipe;
mod report;
mod template;
mod variables;
mod version;

pub use build::{Job, OUTPUT, Ran};
pub use command::Own;
pub use error::{LocateError, PackerError};
pub use folder::Folder;
pub use go_template::escape;
pub use init::Plugins;
pub use locate::{Packer, Settings};
pub use recipe::{Form, Recipe};
pub use report::{Artifact, Report, Said};
pub use template::render;
pub use variables::Variables;
pub use version::Version;
