//! From a backend's image to what stands in state.

use std::collections::BTreeMap;

use tfplugin::Attr;

use super::{ArtifactModel, ImageModel};
use crate::backends::template::model::PackerArtifactModel;
use crate::backends::template::{self, Known};
use crate::backends::{ImageSlot, LOCAL};
use crate::domain::image::prefix_of;
use crate::domain::tagging::Unknown;
use crate::domain::{Copies, Image, Made, Share, Tagging};
use crate::resources::object::Object;

/// Where an image came from, from the point of view of the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Built by this resource.
    Built,
    /// Found by its key.
    Cached,
    /// Adopted.
    Existing,
    /// Taken over by `import`.
    Imported,
}

impl Origin {
    /// As it stands in state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Built => "built",
            Self::Cached => "cached",
            Self::Existing => "existing",
            Self::Imported => "imported",
        }
    }
}

impl ImageModel {
    /// Fills in what only the image itself knows. What the user wrote stays as written.
    pub fn observe(&mut self, image: &Image, cloud: &str, region: &str) {
        self.id = image.id.as_str().into();
        self.cloud = cloud.into();
        self.region = region.into();
        self.image_id = image.id.as_str().into();
        self.image_name = image.name.as_str().into();
        self.artifacts = Attr::Known(artifacts(image));
        keep_or_take(&mut self.resolved_base, image.resolved_base.clone());
        self.packer_artifacts = if cloud == template::CLOUD { Attr::Known(made(image)) } else { Attr::Null };
        self.created_at = image.created_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true).into();
        keep_or_take(&mut self.build_duration, image.build_seconds.map(|seconds| format!("{seconds}s")));
        self.size_bytes = image.size_bytes.into();
        keep_or_take(&mut self.log_path, image.log_path.as_ref().map(|path| path.display().to_string()));
        let disk = image.disk.as_ref();
        self.path = disk.map(|disk| disk.path.display().to_string()).into();
        self.format = disk.map(|disk| disk.format.clone()).into();
        self.sha256 = disk.map(|disk| disk.sha256.clone()).into();
    }

    /// The image as state names it.
    pub(in crate::resources) fn object(&self) -> Object<'_> {
        let cloud = self.cloud.known_deref().unwrap_or(LOCAL);
        Object { title: "Image", id: &self.image_id, cloud, store: &self.store_id }
    }

    /// Fills in what there is of the image, by region.
    pub fn observe_artifacts(&mut self, image: &Image) {
        self.artifacts = Attr::Known(artifacts(image));
    }

    /// What state says of an image of a template.
    pub fn known(&self) -> Option<Known> {
        let made = self.packer_artifacts.known()?.iter().map(|one| Made {
            builder_id: one.builder_id.clone().unwrap_or_default(),
            id: one.id.clone().unwrap_or_default(),
            files: one.files.known().into_iter().flatten().map(Into::into).collect(),
            managed: one.managed.unwrap_or(false),
        });
        let created_at = self.created_at.known().and_then(|text| text.parse().ok());
        let name = self.image_name.known().cloned().unwrap_or_default();
        let is_own = self.origin.known_deref() == Some(Origin::Built.name());
        Some(Known {
            id: self.image_id.known()?.clone(),
            name,
            made: made.collect(),
            created_at,
            is_own,
            are_files_elsewhere: false,
        })
    }

    /// What was made that nobody looks after, in words.
    pub fn unmanaged(&self) -> Vec<String> {
        let known = self.known().map(|known| known.made).unwrap_or_default();
        let unmanaged = known.into_iter().filter(|made| !made.managed);
        unmanaged.map(|made| format!("{} of {}", made.id, made.builder_id)).collect()
    }

    /// Fills in what became of the image's distribution.
    pub fn observe_distribution(&mut self, image: &Image, shared: Option<&BTreeMap<String, Share>>) {
        let home = self.region.clone().unwrap_or_default();
        for section in self.slots_mut().into_iter().filter_map(ImageSlot::section_mut) {
            section.observe(image, &home, shared);
        }
    }

    /// Whether the configuration says who may use the image.
    pub fn manages_sharing(&self) -> bool {
        self.section().is_some_and(|section| section.distribution().share.is_some())
    }

    /// Keeps who was to use the image before, beside who is to use it now.
    pub fn keep_shares(&mut self, prior: &Self) {
        let Some(before) = prior.section() else { return };
        for section in self.slots_mut().into_iter().filter_map(ImageSlot::section_mut) {
            section.keep_shares(before);
        }
    }

    /// Copies in other regions that state knows of.
    pub fn copies(&self) -> Copies {
        if self.cloud.known_deref() == Some(template::CLOUD) {
            return Copies::new();
        }
        let home = self.region.known_deref();
        let all = self.artifacts.known().into_iter().flatten();
        all.filter(|(region, _)| Some(region.as_str()) != home)
            .filter_map(|(region, artifact)| Some((region.clone(), artifact.image_id.known()?.clone())))
            .collect()
    }

    /// An image of a cloud, as far as it tells itself what was asked for.
    pub fn imported(image: &Image, cloud: &str, region: &str) -> Self {
        let prefix = image.key.as_ref().and_then(|key| prefix_of(&image.name, key));
        let mut model = Self { name_prefix: prefix.map(str::to_owned).into(), ..Self::default() };
        let slot = model.slots_mut().into_iter().find(|slot| slot.cloud() == cloud);
        if let Some(slot) = slot.filter(|_| cloud != LOCAL) {
            slot.import(image, region);
        }
        model
    }

    /// Fills in the labels of an image that is imported: all of them, but for tags that its builder did not write.
    pub fn import_labels(&mut self, image: &Image, tagging: &Tagging) {
        self.description = image.labels.description.clone().into();
        if !image.labels.channels.is_empty() {
            self.channels = Attr::Known(image.labels.channels.clone());
        }
        self.observe_labels(image, tagging);
    }

    /// Fills in labels as the image has them, so that a change from outside shows. Only those that this resource manages
    /// count, for others may share the image: what the user left null stays null. Tags that are left alone stay as written.
    pub fn observe_labels(&mut self, image: &Image, tagging: &Tagging) {
        let labels = &image.labels;
        if !self.description.is_null() {
            self.description = labels.description.clone().into();
        }
        if let Attr::Known(own) = &self.channels {
            self.channels = Attr::Known(own.intersection(&labels.channels).cloned().collect());
        }
        // Until it is known which are somebody else's, all are as they were.
        if tagging.unknown == Unknown::Ignored {
            return;
        }
        let own = self.tags.clone().unwrap_or_default();
        if !self.tags.is_null() {
            self.tags = Attr::Known(tagging.seen(&own, &labels.tags));
        }
        // What a default tag of the past set is still ours to remove.
        let before = self.tags_all.clone().unwrap_or_default();
        let managed = |key: &String| {
            own.contains_key(key) || tagging.default.contains_key(key) || before.contains_key(key)
        };
        let all = labels.tags.iter().filter(|(key, _)| managed(key));
        let all = all.map(|(key, value)| (key.clone(), value.clone())).collect();
        self.tags_all = Attr::Known(tagging.managed(all));
    }
}

/// What only the process that built an image may know: a later look does not take it back.
fn keep_or_take(attribute: &mut Attr<String>, seen: Option<String>) {
    if seen.is_some() || !attribute.is_known() {
        *attribute = seen.into();
    }
}

fn made(image: &Image) -> Vec<PackerArtifactModel> {
    let model = |made: &Made| PackerArtifactModel {
        builder_id: made.builder_id.as_str().into(),
        id: made.id.as_str().into(),
        files: Attr::Known(made.files.iter().map(|path| path.display().to_string()).collect()),
        managed: made.managed.into(),
    };
    image.made.iter().map(model).collect()
}

fn artifacts(image: &Image) -> BTreeMap<String, ArtifactModel> {
    let model = |artifact: &crate::domain::Artifact| ArtifactModel {
        image_id: artifact.image_id.as_str().into(),
        snapshot_ids: Attr::Known(artifact.snapshot_ids.clone()),
    };
    image.artifacts.iter().map(|(region, artifact)| (region.clone(), model(artifact))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_image_does_not_tell_stays_as_it_was_told_before() {
        for (before, seen, after) in [
            (Attr::Known("a".to_owned()), None, Attr::Known("a".to_owned())),
            (Attr::Known("a".to_owned()), Some("b"), Attr::Known("b".to_owned())),
            (Attr::Unknown, None, Attr::Null),
            (Attr::Null, Some("b"), Attr::Known("b".to_owned())),
        ] {
            let mut attribute = before;
            keep_or_take(&mut attribute, seen.map(str::to_owned));
            assert_eq!(attribute, after);
        }
    }
}
