//! What is there of a build that came to nothing: its images and snapshots, and a builder that was not removed.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_ec2::types::{Image as Ami, Instance};
use tokio_util::sync::CancellationToken;

use super::{Build, BuildError};
use crate::backends::aws::image::{Interface, delete};
use crate::backends::aws::region::{Region, filter, is_gone};
use crate::backends::aws::vm::surroundings;
use crate::backends::aws::{Aws, AwsError, tags};
use crate::domain::Copies;
use crate::ssh::LoginCommand;

/// How long a builder may take to end.
const ENDING: Duration = Duration::from_secs(5 * 60);
/// What the names of groups begin with that Packer makes.
const PACKERS: &str = "packer_";

/// Removes what carries the build's tag. `image` is its AMI, when that is known.
pub(super) async fn remove(
    aws: &Aws,
    region: &Region,
    build: &str,
    image: Option<&str>,
) -> Result<(), AwsError> {
    let mut images = images(region, build).await?;
    if let Some(id) = image
        && !images.iter().any(|ami| ami.image_id() == Some(id))
    {
        images.extend(region.fresh_image(id).await?);
    }
    for ami in &images {
        delete::everywhere(aws, region, ami, &Copies::new()).await?;
    }
    let left = instances(region, build).await?;
    for id in left.iter().filter_map(Instance::instance_id) {
        let ended = region.ec2.terminate_instances().instance_ids(id).send().await;
        ended.map_err(|error| AwsError::of("TerminateInstances", error))?;
    }
    if !left.is_empty() {
        remove_groups(region, groups(region, build, &left).await?).await;
    }
    let deleted = region.ec2.delete_key_pair().key_name(surroundings::name(build)).send().await;
    match deleted.map_err(|error| AwsError::of("DeleteKeyPair", error)) {
        Err(error) if !error.is_gone() => Err(error),
        _ => Ok(()),
    }
}

/// The builder stays: says how to log in.
pub(super) async fn kept(build: &Build<'_>, source: BuildError) -> BuildError {
    let found = instances(build.region, &build.id).await.ok().and_then(|all| all.into_iter().next());
    let Some(instance) = found else { return source };
    let login = &build.spec.builder.login;
    let address = match login.interface {
        Interface::Public => instance.public_ip_address().or(instance.private_ip_address()),
        Interface::Private | Interface::SessionManager => instance.private_ip_address(),
    };
    let own = build.dir.join("ssh_key");
    let command = LoginCommand {
        host: login.host.as_deref().or(address).unwrap_or("its address"),
        port: login.port.unwrap_or(22),
        username: &login.username,
        private_key: Some(login.private_key_path.as_deref().unwrap_or(&own)),
        known_host: None,
    };
    BuildError::Kept {
        instance: instance.instance_id().unwrap_or_default().to_owned(),
        login: command.line(),
        source: Box::new(source),
    }
}

async fn images(region: &Region, build: &str) -> Result<Vec<Ami>, AwsError> {
    let tag = filter(&format!("tag:{}", tags::BUILD), [build]);
    let found = region.ec2.describe_images().owners("self").filters(tag).send().await;
    Ok(found.map_err(|error| AwsError::of("DescribeImages", error))?.images.unwrap_or_default())
}

async fn instances(region: &Region, build: &str) -> Result<Vec<Instance>, AwsError> {
    let tag = filter(&format!("tag:{}", tags::BUILD), [build]);
    let found = region.ec2.describe_instances().filters(tag).send().await;
    let found = found.map_err(|error| AwsError::of("DescribeInstances", error))?;
    let all = found.reservations.unwrap_or_default().into_iter();
    let all = all.flat_map(|one| one.instances.unwrap_or_default());
    Ok(all.filter(|instance| !is_gone(instance)).collect())
}

/// Groups of the build. The oldest Packer puts no tag on its own, so it is also known by the builder that is in it.
async fn groups(region: &Region, build: &str, left: &[Instance]) -> Result<BTreeSet<String>, AwsError> {
    let tag = filter(&format!("tag:{}", tags::BUILD), [build]);
    let found = region.ec2.describe_security_groups().filters(tag).send().await;
    let found = found.map_err(|error| AwsError::of("DescribeSecurityGroups", error))?;
    let tagged = found.security_groups().iter().filter_map(|group| group.group_id());
    let packers = left.iter().flat_map(Instance::security_groups);
    let packers = packers.filter(|group| group.group_name().is_some_and(|name| name.starts_with(PACKERS)));
    Ok(tagged.chain(packers.filter_map(|group| group.group_id())).map(str::to_owned).collect())
}

/// A group can be removed when its instance has ended.
async fn remove_groups(region: &Region, groups: BTreeSet<String>) {
    let never = CancellationToken::new();
    for id in groups {
        let removed = surroundings::remove_group(region, &id, &never);
        match tokio::time::timeout(ENDING, removed).await {
            Ok(Ok(())) => {}
            other => tracing::warn!(group = id, ?other, "a build's security group is not removed"),
        }
    }
}
