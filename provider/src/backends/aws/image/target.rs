//! An AMI as something that is to be made.

use serde_json::Value;

use super::{AwsImageSpec, problems};
use crate::backends::{Backends, KeyError, Problems, Target};
use crate::domain::{Distribution, ImageBuilder, ImageSpec, Labels};

impl Target for AwsImageSpec {
    fn problems(&self, _spec: &ImageSpec) -> Problems {
        problems::problems(self)
    }

    fn build_problems(&self, _spec: &ImageSpec) -> Problems {
        problems::build_problems(self)
    }

    fn label_problems(&self, labels: &Labels, distribution: &Distribution) -> Problems {
        problems::label_problems(labels, distribution)
    }

    fn key_inputs(&self) -> Result<Value, KeyError> {
        Ok(Self::key_inputs(self))
    }

    fn builder(&self, backends: &Backends) -> Box<dyn ImageBuilder> {
        Box::new(backends.aws.builder(self.clone(), backends.tools()))
    }
}
