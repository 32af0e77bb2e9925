//! What resources ask of `aws = { … }` of an image.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tfplugin::{Attr, Diagnostics, Path};

use super::{AwsImageModel, CONTENT};
use crate::backends::aws::{CLOUD, model};
use crate::backends::{ImageAround, ImageSection, Target};
use crate::domain::{Distribution, Image, Share};

impl ImageSection for AwsImageModel {
    fn cloud(&self) -> &'static str {
        CLOUD
    }

    fn offer(&self) -> &'static str {
        "`aws = { … }` on EC2"
    }

    fn region(&self) -> Attr<&str> {
        self.region.as_ref().map(String::as_str)
    }

    fn content(&self) -> Option<&'static [&'static str]> {
        Some(CONTENT)
    }

    fn validate(&self, around: &ImageAround<'_>, path: &Path, diags: &mut Diagnostics) {
        if around.existing.is_known() {
            self.check_existing(path, diags);
            return;
        }
        self.check(path, diags);
        Self::check_object(around.description, around.channels, diags);
        model::validate_tags(around.tags, diags);
    }

    fn target(
        &self,
        _config: Option<&dyn ImageSection>,
        region: &str,
        _path: &Path,
        _diags: &mut Diagnostics,
    ) -> Option<Arc<dyn Target>> {
        Some(Arc::new(self.spec(region)))
    }

    fn distribution(&self) -> Distribution {
        self.spread()
    }

    fn copies(&self) -> Attr<&BTreeSet<String>> {
        self.ami_regions.as_ref()
    }

    fn is_looked_through(&self) -> Attr<bool> {
        self.verify_boot
    }

    fn observe(&mut self, image: &Image, home: &str, shared: Option<&BTreeMap<String, Share>>) {
        self.take_in(image, home, shared);
    }

    fn keep_shares(&mut self, prior: &dyn ImageSection) {
        if let Some(prior) = prior.of::<Self>() {
            self.keep_shares_of(prior);
        }
    }

    fn imported(image: &Image, home: &str) -> Self {
        Self::told_by(image, home)
    }
}
