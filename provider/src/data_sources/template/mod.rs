//! `data "sindri_template"`: what would be built, without building it.

mod model;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use model::TemplateModel;
use tfplugin::{Attr, CancellationToken, DataSource, Diagnostics, Model, Path};

use crate::configured::Configured;
use crate::diagnose;
use crate::domain::TemplateRequest;
use crate::resources::image::place::Place;

/// The data source.
#[derive(Debug)]
pub struct TemplateDataSource(Arc<Configured>);

impl TemplateDataSource {
    /// The data source of a provider.
    pub fn new(provider: Arc<Configured>) -> Self {
        Self(provider)
    }
}

#[async_trait]
impl DataSource for TemplateDataSource {
    type Model = TemplateModel;

    fn name(&self) -> &'static str {
        "template"
    }

    async fn validate(&self, config: &TemplateModel, diags: &mut Diagnostics) {
        let image = config.image();
        image.validate(&image.encode(), diags);
        let Attr::Known(section) = image.chosen() else { return };
        let Some(text) = section.without_packer() else { return };
        let asked = [
            ("validate", config.validate.known() == Some(&true)),
            ("packer_version", config.packer_version.is_known()),
        ];
        for (name, _) in asked.iter().filter(|(_, asked)| *asked) {
            diags.error(Path::from(*name), "No template", text);
        }
    }

    async fn read(
        &self,
        mut config: TemplateModel,
        cancel: CancellationToken,
        diags: &mut Diagnostics,
    ) -> Result<TemplateModel, Diagnostics> {
        let backends = self.0.require()?;
        let image = config.image();
        // All is known when a data source is read.
        let Some(place) = Place::configured(&backends, &image, None).await else { return Ok(config) };
        let mut mistakes = Diagnostics::new();
        let Some(wanted) = image.request(&image, &place.region, &mut mistakes) else { return Err(mistakes) };
        diags.extend(mistakes);
        let settings = image.settings(&backends.tagging);
        let mut problems = wanted.target.label_problems(&settings.labels, &settings.distribution);
        let validate = config.validate.known() == Some(&true);
        if validate {
            problems.extend(wanted.target.build_problems(&wanted.spec));
        }
        if !problems.is_empty() {
            return Err(diagnose::impossible(problems));
        }
        let request = TemplateRequest {
            spec: wanted.spec.without_values(),
            key: wanted.key.clone(),
            tags: settings.labels.tags,
            packer_version: config.packer_version.known().cloned(),
            validate,
            cancel,
        };
        let template = wanted.target.builder(&backends).template(&request).await;
        let template = template.map_err(|error| diagnose::backend("Template not shown", &error))?;
        config.cache_key = wanted.key.as_str().into();
        config.show(template, &request.spec);
        Ok(config)
    }
}
