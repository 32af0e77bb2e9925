//! AWS: images and instances by EC2's API.
//!
//! Nothing is loaded or asked before the first use. Knows no other backend and no resource.

mod client;
mod cloud;
mod endpoint;
mod error;
mod identity;
pub mod image;
mod listing;
pub mod model;
mod permissions;
mod reach;
mod region;
mod retries;
mod settings;
pub mod sweep;
mod tags;
pub mod vm;
mod waiting;

/// The backend's name in state.
pub const CLOUD: &str = "aws";

/// What is known of it before anything is set up.
pub const ABOUT: About = About {
    name: CLOUD,
    title: "AWS",
    region: Some(settings::region),
    image_id: "\"aws/REGION/AMI_ID\"",
    machine_id: "\"aws/REGION/INSTANCE_ID\"",
    set_up: "Set AWS_PROFILE, or AWS_REGION where credentials come from an instance's role",
    init: Some(include_str!("../../../../templates/init/aws.tf")),
};

pub use client::Aws;
pub use error::AwsError;
pub use settings::{AssumeRole, AwsSettings};

use super::About;

#[cfg(test)]
mod tests {
    /// A request as text, for golden files: what is said in it. The SDK prints no secret.
    pub(super) fn told(request: &impl std::fmt::Debug) -> String {
        let text = format!("{request:#?}");
        text.lines().filter(|line| !line.ends_with(": None,")).collect::<Vec<_>>().join("\n")
    }
}
