//! The local backend: builds images and runs machines with QEMU on this computer.
//!
//! Needs no cloud, no Packer and no KVM. Knows no other backend and no resource.

mod builder;
mod cloud;
pub mod guest;
pub mod host;
pub mod image;
mod key;
mod local;
pub mod model;
pub mod prune;
mod spec;
pub mod store;
pub mod sweep;
mod target;
pub mod vm;
pub mod vm_model;

/// The backend's name in state.
pub const CLOUD: &str = "qemu";

/// What is known of it before anything is set up.
pub const ABOUT: About = About {
    name: CLOUD,
    title: "this computer",
    region: None,
    image_id: "\"qemu/IMAGE_ID\"",
    machine_id: "\"qemu/MACHINE_ID\", the name of its folder in `vms/` under `data_dir`,",
    set_up: "",
    init: None,
};

/// The name under which the local store stands beside the clouds' regions.
pub const REGION: &str = "local";

pub use key::UnreadableBase;
pub use local::{ForeignStore, Local};
pub use spec::{Arch, Base, Bootstrap, DiskFormat, Engine, ImageSource, Network, QemuImageSpec};

use super::About;
