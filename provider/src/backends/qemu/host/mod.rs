//! What this host offers: programs, firmware, accelerators, namespaces, disk space.
//!
//! Looking is cheap (files, and one system call for KVM); a program is started only to learn its version. Whether there
//! are namespaces is tried elsewhere, and told here.
//! Knows nothing of images or machines.

mod accelerator;
mod emulator;
mod firmware;
mod namespaces;
mod prerequisites;
mod program;

pub use accelerator::{Accelerator, AcceleratorChoice, accelerator};
pub use emulator::{Emulator, HostError};
pub use firmware::{Firmware, firmware};
pub use namespaces::Refusal;
pub use prerequisites::{Keyring, Looked, prerequisites};
pub(in crate::backends::qemu) use program::{apt_helper, find as find_program};
