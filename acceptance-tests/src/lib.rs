//! Drives real OpenTofu and Terraform, as processes with JSON output, over scenario folders.
//!
//! A [`Host`] is a machine's state (images, VMs, logs) in a folder of its own; a [`Workspace`] is a
//! configuration applied on it by one [`Cli`]; the [`Inventory`] says what is left on a host; [`Moto`] is an EC2.
//! Nothing here knows the provider's code: what a scenario shows, a user can see.

pub mod account;
mod cli;
pub mod disk;
mod guest;
mod host;
mod inventory;
mod merged;
mod moto;
mod outcome;
mod plan;
mod running;
pub mod user;
pub mod web;
mod within;
mod workspace;

pub use cli::{Cli, built_tool, each_cli, either_cli, only_debian, only_root, repository};
pub use guest::Guest;
pub use host::{Host, cache_home, suite};
pub use inventory::Inventory;
pub use merged::merged;
pub use moto::{Fault, Moto};
pub use outcome::{Diagnostic, Outcome, Severity};
pub use plan::{Change, Plan};
pub use running::Running;
pub use within::within;
pub use workspace::Workspace;
