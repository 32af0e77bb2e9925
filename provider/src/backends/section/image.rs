//! `CLOUD = { … }` of an image.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tfplugin::{Attr, Diagnostics, Path};

use crate::backends::Target;
use crate::domain::{Distribution, Image, Share};

/// `CLOUD = { … }` of an image. Where an image can be shared, `share` in it says with whom, and `share.public` that everybody
/// may have it.
pub trait ImageSection: Any + Send + Sync {
    /// The cloud, as the attribute is called and as `cloud` has it in state.
    fn cloud(&self) -> &'static str;

    /// What to set it means, for whoever sets none or two.
    fn offer(&self) -> &'static str;

    /// The region that it names; null where it may name one and does not.
    fn region(&self) -> Attr<&str>;

    /// What in it describes the image's content: the cache key depends on it. None when all of it does.
    fn content(&self) -> Option<&'static [&'static str]>;

    /// Checks what can be said before values are known, also of what stands beside it.
    fn validate(&self, around: &ImageAround<'_>, path: &Path, diags: &mut Diagnostics) {
        let _ = (around, path, diags);
    }

    /// Who makes it. All values are known; `config` is the section as the user wrote it, with secrets, as far as it is known;
    /// `region` is where the image is or is to be. None when `diags` tells what is wrong.
    fn target(
        &self,
        config: Option<&dyn ImageSection>,
        region: &str,
        path: &Path,
        diags: &mut Diagnostics,
    ) -> Option<Arc<dyn Target>>;

    /// Why there is no template of Packer's to be seen, and what to do.
    fn without_packer(&self) -> Option<&'static str> {
        None
    }

    /// Where else it is to be, who may use it, and when it ages, as far as that is known.
    fn distribution(&self) -> Distribution {
        Distribution::default()
    }

    /// Regions that get a copy.
    fn copies(&self) -> Attr<&BTreeSet<String>> {
        Attr::Null
    }

    /// Whether a machine from the image is looked through for what its build was to remove.
    fn is_looked_through(&self) -> Attr<bool> {
        Attr::Null
    }

    /// Takes in what became of the distribution of an image that is at `home`. `shared` is by region, where sharing is managed.
    fn observe(&mut self, image: &Image, home: &str, shared: Option<&BTreeMap<String, Share>>) {
        let _ = (image, home, shared);
    }

    /// Keeps who was to use it before, beside who is to use it now: not everything of it could be taken back.
    fn keep_shares(&mut self, prior: &dyn ImageSection) {
        let _ = prior;
    }

    /// What an image that is imported tells of what was asked for.
    fn imported(image: &Image, home: &str) -> Self
    where
        Self: Sized;
}

impl dyn ImageSection + '_ {
    /// The section, if it is of this cloud.
    pub fn of<T: ImageSection>(&self) -> Option<&T> {
        let section: &dyn Any = self;
        section.downcast_ref()
    }
}

/// What stands beside an image's section, as far as clouds have rules for it.
#[derive(Debug)]
pub struct ImageAround<'a> {
    /// The id of an image that is adopted instead of built.
    pub existing: &'a Attr<String>,
    /// `description`.
    pub description: &'a Attr<String>,
    /// `channels`.
    pub channels: &'a Attr<BTreeSet<String>>,
    /// `tags`.
    pub tags: &'a Attr<BTreeMap<String, String>>,
}

/// An image's section, set or not.
pub trait ImageSlot {
    /// [`ImageSection::cloud`].
    fn cloud(&self) -> &'static str;
    /// [`ImageSection::offer`].
    fn offer(&self) -> &'static str;
    /// Where in it content is described.
    fn content(&self) -> Vec<Path>;
    /// The section.
    fn section(&self) -> Attr<&dyn ImageSection>;
    /// The section, to be changed, if it is known.
    fn section_mut(&mut self) -> Option<&mut dyn ImageSection>;
    /// Fills it in for an image that is imported.
    fn import(&mut self, image: &Image, home: &str);
}

impl<T: ImageSection + Default> ImageSlot for Attr<T> {
    fn cloud(&self) -> &'static str {
        T::default().cloud()
    }

    fn offer(&self) -> &'static str {
        T::default().offer()
    }

    fn content(&self) -> Vec<Path> {
        let whole = Path::from(ImageSlot::cloud(self));
        match T::default().content() {
            Some(names) => names.iter().map(|name| whole.attr(*name)).collect(),
            None => vec![whole],
        }
    }

    fn section(&self) -> Attr<&dyn ImageSection> {
        self.as_ref().map(|section| section as _)
    }

    fn section_mut(&mut self) -> Option<&mut dyn ImageSection> {
        match self {
            Self::Known(section) => Some(section),
            Self::Null | Self::Unknown => None,
        }
    }

    fn import(&mut self, image: &Image, home: &str) {
        *self = Self::Known(T::imported(image, home));
    }
}
