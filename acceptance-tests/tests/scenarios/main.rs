//! What a user does, under real programs. One program, so that all processors have work until its last test.

mod aws_build;
mod aws_hand_over;
mod aws_image;
mod aws_launch;
mod aws_lookup;
mod aws_verify;
mod aws_vm;
mod bad_input;
mod cancel;
mod examples;
mod image;
mod image_base;
mod image_boot;
mod image_cache;
mod image_packer;
mod image_template;
mod lookup;
mod quickstart;
mod reattach;
mod rig;
mod secrets;
mod template;
mod vm;
