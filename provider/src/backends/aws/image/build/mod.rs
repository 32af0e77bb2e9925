//! Builds an AMI: Packer runs the steps in a builder, EC2 makes an image of it.

use std::sync::Arc;

use async_trait::async_trait;

use super::AwsImageSpec;
use crate::backends::aws::Aws;
use crate::domain::{BackendError, BuildRequest, Built, ImageBuilder};

/// Builds one image.
#[derive(Debug)]
pub struct AwsBuilder {
    aws: Arc<Aws>,
    spec: AwsImageSpec,
}

impl Aws {
    /// Who builds this image.
    pub fn builder(self: &Arc<Self>, spec: AwsImageSpec) -> AwsBuilder {
        AwsBuilder { aws: Arc::clone(self), spec }
    }
}

#[async_trait]
impl ImageBuilder for AwsBuilder {
    async fn build(&self, request: &BuildRequest) -> Result<Built, BackendError> {
        let _ = (&self.aws, &self.spec, request);
        Err(BackendError::failed("building the image", "not in this version"))
    }
}
