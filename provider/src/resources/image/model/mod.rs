//! `sindri_image` as it stands in configuration and state.

mod request;
mod state;
mod step;

use std::collections::{BTreeMap, BTreeSet};

use tfplugin::{Attr, Model, Timeouts};

pub use request::{ImageRequest, Settings, content};
pub use state::Origin;
pub use step::{StepModel, UploadModel};

use crate::backends::aws::model::AwsImageModel;
use crate::backends::qemu::model::QemuImageModel;
use crate::backends::template::model::{PackerArtifactModel, PackerImageModel};
use crate::backends::{ImageSection, ImageSlot, chosen};
use crate::domain::names;
use crate::domain::rules::one_of;

/// A machine image: built, found when an identical one exists already, noticed when it is gone, deleted when
/// nobody needs it any more.
///
/// Exactly one of `qemu`, `aws` and `packer` says where it is, and how it is built.
#[derive(Debug, Clone, Default, Model)]
pub struct ImageModel {
    /// What the image's name begins with. The full name, `image_name`, adds 12 digits of the cache key and 6 of
    /// the build's id.
    #[attr(optional, validate = names::object)]
    pub name_prefix: Attr<String>,
    /// What the image is, for people.
    #[attr(optional)]
    pub description: Attr<String>,
    /// The id of an image that exists already and is to be adopted: nothing is built, and destroy leaves it.
    /// Cannot be combined with what describes an image's content.
    #[attr(optional, requires_replace)]
    pub existing_image_id: Attr<String>,
    /// Whether a complete image with the same cache key is used rather than built again. That holds for `-replace` and taint
    /// with `create_before_destroy`, too, where the image that is replaced is still there: to build such an image anew, change
    /// `triggers`, or set `cache = false`.
    #[attr(optional, default = true)]
    pub cache: Attr<bool>,
    /// The greatest age of an image, such as `"720h"`. An older one is not used. One that was older when it was last read is
    /// planned to be replaced. The new one may begin with a bootstrapped system of up to 7 days: see `bootstrap`.
    #[attr(optional, validate = tfplugin::is_duration)]
    pub max_age: Attr<String>,
    /// More inputs of the cache key: a change of any value builds the image again.
    #[attr(optional)]
    pub triggers: Attr<BTreeMap<String, String>>,
    /// Tags of the image. They win over the provider's `default_tags`.
    #[attr(optional)]
    pub tags: Attr<BTreeMap<String, String>>,
    /// What the image is promoted to, such as `"production"`; data sources can look it up.
    #[attr(optional)]
    pub channels: Attr<BTreeSet<String>>,
    /// Whether destroy leaves the image where it is. On this computer `terraform-provider-sindri prune` removes what nobody
    /// holds any more.
    #[attr(optional, default = false)]
    pub retain_on_destroy: Attr<bool>,
    /// Builds the image on this computer with QEMU: no cloud, no Packer, no KVM needed.
    #[attr(optional)]
    pub qemu: Attr<QemuImageModel>,
    /// Builds the image on AWS with Packer, as an AMI. What is not the image's content, such as the builder's size or the way
    /// to it, builds nothing when it changes.
    #[attr(optional)]
    pub aws: Attr<AwsImageModel>,
    /// Builds a Packer template of your own, whatever it makes. AMIs, and files on this computer, are looked after from then
    /// on; all else is recorded and left alone.
    #[attr(optional)]
    pub packer: Attr<PackerImageModel>,
    /// Environment variables of all steps.
    #[attr(optional)]
    pub environment: Attr<BTreeMap<String, String>>,
    /// Like `environment`, for secrets: never stored in plan or state.
    #[attr(optional, write_only)]
    pub environment_wo: Attr<BTreeMap<String, String>>,
    /// Stands for `environment_wo` in the cache key: raise it to build again with new secrets.
    #[attr(optional)]
    pub environment_wo_version: Attr<i64>,
    /// What is done in the image, in order. Each step has exactly one of `inline`, `script`, `content`, `upload`
    /// and `reboot`.
    #[attr(optional)]
    pub provision: Attr<Vec<StepModel>>,
    /// What is removed at the end of a build.
    #[attr(optional)]
    pub security: Attr<SecurityModel>,
    /// Commands that must succeed in the finished image, booted on a throw-away overlay; on AWS in the builder before it is
    /// cleaned, or with `aws.verify_boot` in a machine from the finished image. One that fails fails the build, and no
    /// image is made.
    #[attr(optional)]
    pub verify: Attr<Vec<CheckModel>>,
    /// What a failed build does with its guest: `"cleanup"` removes it, `"keep"` leaves it up for a look and tells how to
    /// reach it. There is a guest where the steps run in one, and while the image is verified; steps in the file tree leave
    /// nothing.
    #[attr(optional, default = "cleanup", validate = on_error)]
    pub on_error: Attr<String>,
    /// How long the operations may take: when not set, an hour to create or update, 15 minutes to read or delete.
    #[attr(optional)]
    pub timeouts: Attr<Timeouts>,

    /// The same as `image_id`.
    #[attr(computed, keep_prior)]
    pub id: Attr<String>,
    /// Where the image is: `"qemu"`, `"aws"`, or `"packer"` for what a template of your own made.
    #[attr(computed, keep_prior)]
    pub cloud: Attr<String>,
    /// The region; `"local"` for an image on this computer, and for a template of your own.
    #[attr(computed, keep_prior)]
    pub region: Attr<String>,
    /// What the image was built from: equal keys, equal images. Null for an adopted image.
    #[attr(computed)]
    pub cache_key: Attr<String>,
    /// `"built"`, `"cached"` (found by its key), `"existing"` (adopted) or `"imported"`.
    #[attr(computed, keep_prior)]
    pub origin: Attr<String>,
    /// The image's own id, to be given to `sindri_vm`. For a template of your own the build's: its AMIs are in `artifacts`.
    #[attr(computed, keep_prior)]
    pub image_id: Attr<String>,
    /// The image's full name.
    #[attr(computed, keep_prior)]
    pub image_name: Attr<String>,
    /// What there is of the image, by region.
    #[attr(computed, keep_prior)]
    pub artifacts: Attr<BTreeMap<String, ArtifactModel>>,
    /// All that Packer made of a template of your own, as it tells of it. Null for other images.
    #[attr(computed, keep_prior)]
    pub packer_artifacts: Attr<Vec<PackerArtifactModel>>,
    /// What the requested base turned out to be.
    #[attr(computed, keep_prior)]
    pub resolved_base: Attr<String>,
    /// When the image was finished, in RFC 3339.
    #[attr(computed, keep_prior)]
    pub created_at: Attr<String>,
    /// How long the build took, such as `"41s"`.
    #[attr(computed, keep_prior)]
    pub build_duration: Attr<String>,
    /// Bytes that the image takes up where it is stored.
    #[attr(computed, keep_prior)]
    pub size_bytes: Attr<u64>,
    /// The build's log on the host that built it.
    #[attr(computed, keep_prior)]
    pub log_path: Attr<String>,
    /// The image's tags and the provider's `default_tags` together.
    #[attr(computed)]
    pub tags_all: Attr<BTreeMap<String, String>>,
    /// The disk's file, for an image on this computer.
    #[attr(computed, keep_prior)]
    pub path: Attr<String>,
    /// The disk's format.
    #[attr(computed, keep_prior)]
    pub format: Attr<String>,
    /// SHA-256 of the disk's file, in lower-case hex.
    #[attr(computed, keep_prior)]
    pub sha256: Attr<String>,
    /// Which local store has the image: state made on another host must not be mistaken for a lost image. Null in a cloud.
    #[attr(computed, keep_prior)]
    pub store_id: Attr<String>,
}

impl ImageModel {
    /// `CLOUD = { … }` of each cloud, and `packer`: what a new one adds to, here and in the next function.
    fn slots(&self) -> Vec<&dyn ImageSlot> {
        vec![&self.qemu, &self.aws, &self.packer]
    }

    /// The same, to be changed.
    fn slots_mut(&mut self) -> Vec<&mut dyn ImageSlot> {
        vec![&mut self.qemu, &mut self.aws, &mut self.packer]
    }

    /// Who makes it; unknown as long as that may still turn out.
    pub(crate) fn chosen(&self) -> Attr<&dyn ImageSection> {
        chosen(self.slots().into_iter().map(ImageSlot::section))
    }

    /// Who makes it, if that is known by now.
    pub(crate) fn section(&self) -> Option<&dyn ImageSection> {
        self.slots().into_iter().find_map(|slot| slot.section().into_known())
    }
}

/// What is removed at the end of a build.
#[derive(Debug, Clone, Default, Model)]
pub struct SecurityModel {
    /// Whether logs, histories, caches, cloud-init's instance data and the machine id are removed.
    #[attr(optional, default = true)]
    pub clean_sensitive_data: Attr<bool>,
    /// Whether the SSH host keys are removed, so that no two machines share them; each makes its own at first
    /// boot.
    #[attr(optional, default = true)]
    pub remove_ssh_host_keys: Attr<bool>,
}

/// A command that must succeed in the finished image.
#[derive(Debug, Clone, Default, Model)]
pub struct CheckModel {
    /// What messages call it.
    #[attr(required, validate = names::text)]
    pub name: Attr<String>,
    /// For `/bin/sh -c`, as root.
    #[attr(required, validate = names::text)]
    pub command: Attr<String>,
}

/// One region's copy of an image.
#[derive(Debug, Clone, Default, Model)]
pub struct ArtifactModel {
    /// The image's id in the region.
    #[attr(computed)]
    pub image_id: Attr<String>,
    /// Snapshots that belong to the image.
    #[attr(computed)]
    pub snapshot_ids: Attr<Vec<String>>,
}

/// What a failed build does with its guest.
///
/// # Errors
/// That it is no such word.
pub(crate) fn on_error(value: &str) -> Result<(), String> {
    one_of(value, &["cleanup", "keep"])
}
