//! Images built and guests booted by the provider's own rooms, which takes minutes: `make builds`.
//!
//! One program, so that it is linked once and all processors have work until its last test. Tests run in the order of
//! their names: those with guests, which take longest, are not the last.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests, and what supports them")]

mod aws_build;
mod aws_deletions;
mod aws_images;
mod aws_journal;
mod aws_packers;
mod aws_sweep;
mod aws_ways;
mod cache;
mod enter;
mod full_disk;
mod guest_boot;
mod guest_lifecycle;
mod image_guest;
mod image_network;
mod image_tree;
mod packer;
mod support;
