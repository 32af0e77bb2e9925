//! What an image starts from: looked for once, so that what is checked is what is used.

use aws_sdk_ec2::types::{DeviceType, Image as Ami, ImageState};

use super::{AwsImageSpec, BuildError};
use crate::backends::aws::AwsError;
use crate::backends::aws::image::Source;
use crate::backends::aws::region::{self, PAGE, Region, filter};
use crate::domain::Arch;

/// The AMI that the image starts from.
pub(super) async fn resolve(region: &Region, spec: &AwsImageSpec) -> Result<Ami, BuildError> {
    let (ami, attribute) = match &spec.source {
        Source::Id(id) => (by_id(region, id).await?, "aws.source_image"),
        Source::Newest { name, owners } => {
            (newest(region, spec.arch, name, owners).await?, "aws.source_filter")
        }
    };
    if let Some(problem) = problem(&ami, spec.arch) {
        return Err(BuildError::refused(attribute, problem));
    }
    if let Some(size) = root_size(&ami).filter(|size| *size > spec.volume.size_gb) {
        let problem = format!(
            "{} has a root volume of {size} GiB, which does not go into one of {}: set `volume_size_gb` to {size} or more",
            ami.image_id().unwrap_or_default(),
            spec.volume.size_gb
        );
        return Err(BuildError::refused("aws.volume_size_gb", problem));
    }
    Ok(ami)
}

async fn by_id(region: &Region, id: &str) -> Result<Ami, BuildError> {
    let found = region.fresh_image(id).await?;
    found.ok_or_else(|| BuildError::refused("aws.source_image", region.no_image(id)))
}

async fn newest(region: &Region, arch: Arch, name: &str, owners: &[String]) -> Result<Ami, BuildError> {
    let images = fitting(region, arch, name, owners).await?;
    images.into_iter().max_by_key(age).ok_or_else(|| {
        let problem = format!(
            "no image in {} has a name like {name:?}, is of {} and for {}: correct the name (`*` stands for any characters), the owners, or `arch`",
            region.name,
            owners.join(" or "),
            arch.name()
        );
        BuildError::refused("aws.source_filter", problem)
    })
}

/// All that an image of this filter could start from.
pub(super) async fn fitting(
    region: &Region,
    arch: Arch,
    name: &str,
    owners: &[String],
) -> Result<Vec<Ami>, AwsError> {
    let asked = region
        .ec2
        .describe_images()
        .set_owners(Some(owners.to_vec()))
        .filters(filter("name", [name]))
        .filters(filter("architecture", [arch.name()]))
        .filters(filter("virtualization-type", ["hvm"]))
        .filters(filter("state", ["available"]));
    let found = region::images(asked.max_results(PAGE)).await?;
    Ok(found.into_iter().map(|(_, ami)| ami).filter(on_ebs).collect())
}

/// Times of one form compare as text. Of two of the same moment the choice is always the same.
pub(super) fn age(ami: &Ami) -> (Option<String>, Option<String>) {
    (ami.creation_date().map(str::to_owned), ami.image_id().map(str::to_owned))
}

fn on_ebs(ami: &Ami) -> bool {
    ami.root_device_type().is_none_or(|kind| *kind == DeviceType::Ebs)
}

/// Why nothing can be built from it.
fn problem(ami: &Ami, arch: Arch) -> Option<String> {
    let id = ami.image_id().unwrap_or_default();
    let theirs = ami.architecture().map(|it| it.as_str().to_owned()).unwrap_or_default();
    if theirs != arch.name() {
        return Some(format!("{id} is for {theirs}, and `arch` is {}: set one as the other is", arch.name()));
    }
    if !on_ebs(ami) {
        return Some(format!("{id} has its root in an instance store: only images on EBS can be built from"));
    }
    match ami.state() {
        Some(ImageState::Available) | None => None,
        Some(state) => Some(format!(
            "{id} is {}, not available: wait for it, enable it, or start from another one",
            state.as_str()
        )),
    }
}

/// The root volume's size in GiB.
fn root_size(ami: &Ami) -> Option<u32> {
    let root = ami.root_device_name()?;
    let mut mappings = ami.block_device_mappings().iter();
    let mapping = mappings.find(|mapping| mapping.device_name() == Some(root))?;
    mapping.ebs()?.volume_size().and_then(|size| u32::try_from(size).ok())
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::ArchitectureValues;

    use super::*;

    #[test]
    fn what_cannot_be_built_from() {
        let sound = || {
            Ami::builder()
                .image_id("ami-1")
                .architecture(ArchitectureValues::X8664)
                .root_device_type(DeviceType::Ebs)
                .state(ImageState::Available)
        };
        assert_eq!(problem(&sound().build(), Arch::X86_64), None);
        let cases = [
            (sound().architecture(ArchitectureValues::Arm64), "is for arm64"),
            (sound().root_device_type(DeviceType::InstanceStore), "instance store"),
            (sound().state(ImageState::Pending), "is pending"),
        ];
        for (ami, words) in cases {
            let told = problem(&ami.build(), Arch::X86_64).unwrap();
            assert!(told.contains(words), "{told}");
        }
    }
}
