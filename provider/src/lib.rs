//! Sindri: machine images and virtual machines under Terraform and OpenTofu.
//!
//! One way through the house: configuration → spec (`domain`) → backend (`backends`) → state. The binary
//! in `main.rs` only chooses what to do.

pub mod backends;
pub mod by_hand;
pub mod configured;
pub mod data_sources;
pub mod diagnose;
pub mod domain;
pub mod functions;
pub mod journal;
pub mod packer;
pub mod process;
pub mod provider;
pub mod provision;
pub mod resources;
pub mod ssh;
