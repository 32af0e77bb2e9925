//! Who else may launch machines from an AMI.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::{
    ImageAttributeName, LaunchPermission, LaunchPermissionModifications, PermissionGroup,
};

use crate::backends::aws::AwsError;
use crate::backends::aws::region::Region;
use crate::domain::{Share, ShareChange, Undistributed};

/// The attributes that ask for it.
pub(super) const SHARE: &str = "aws.share";
const PUBLIC: &str = "aws.share.public";

/// Whether something that was not done is about sharing.
pub(super) fn is_about(problem: &Undistributed) -> bool {
    problem.attribute.starts_with(SHARE)
}

/// How it is shared now.
pub(super) async fn seen(region: &Region, id: &str) -> Result<Share, AwsError> {
    let asked = region.ec2.describe_image_attribute().image_id(id);
    let told = asked.attribute(ImageAttributeName::LaunchPermission).send().await;
    let told = told.map_err(|error| AwsError::of("DescribeImageAttribute", error))?;
    Ok(share(told.launch_permissions()))
}

fn share(permissions: &[LaunchPermission]) -> Share {
    let name = |one: &LaunchPermission| {
        let arn = one.organization_arn().or(one.organizational_unit_arn());
        one.user_id().or(arn).map(str::to_owned)
    };
    Share {
        with: permissions.iter().filter_map(name).collect(),
        public: permissions.iter().any(|one| one.group() == Some(&PermissionGroup::All)),
    }
}

/// Brings it from what was asked for to what is asked for. Returns what did not work.
pub(super) async fn apply(
    region: &Region,
    id: &str,
    from: Option<&Share>,
    to: Option<&Share>,
) -> Vec<Undistributed> {
    let change = match seen(region, id).await {
        Ok(seen) => ShareChange::between(from, to, &seen),
        Err(error) => return vec![problem(SHARE, region, &error)],
    };
    let mut problems = Vec::new();
    // Apart, so that a block of public sharing keeps nobody else from the image.
    let done = modify(region, id, list(&change.add), list(&change.remove)).await;
    problems.extend(done.err().map(|error| problem(SHARE, region, &error)));
    let everybody = || vec![LaunchPermission::builder().group(PermissionGroup::All).build()];
    let done = match change.public {
        Some(true) => modify(region, id, everybody(), Vec::new()).await,
        Some(false) => modify(region, id, Vec::new(), everybody()).await,
        None => Ok(()),
    };
    problems.extend(done.err().map(|error| public_problem(region, &error)));
    problems
}

fn list(names: &BTreeSet<String>) -> Vec<LaunchPermission> {
    let permission = |name: &String| {
        let builder = LaunchPermission::builder();
        if name.contains(":organization/") {
            builder.organization_arn(name).build()
        } else if name.contains(":ou/") {
            builder.organizational_unit_arn(name).build()
        } else {
            builder.user_id(name).build()
        }
    };
    names.iter().map(permission).collect()
}

async fn modify(
    region: &Region,
    id: &str,
    add: Vec<LaunchPermission>,
    remove: Vec<LaunchPermission>,
) -> Result<(), AwsError> {
    if add.is_empty() && remove.is_empty() {
        return Ok(());
    }
    let some = |list: Vec<LaunchPermission>| (!list.is_empty()).then_some(list);
    let change = LaunchPermissionModifications::builder().set_add(some(add)).set_remove(some(remove)).build();
    let done = region.ec2.modify_image_attribute().image_id(id).launch_permission(change).send().await;
    done.map(drop).map_err(|error| AwsError::of("ModifyImageAttribute", error))
}

fn problem(attribute: &str, region: &Region, error: &AwsError) -> Undistributed {
    let causes = crate::domain::causes(error);
    Undistributed {
        attribute: attribute.to_owned(),
        problem: format!("Sharing in {} failed: {causes}", region.name),
    }
}

/// An account can forbid it for all its images.
fn public_problem(region: &Region, error: &AwsError) -> Undistributed {
    let blocked = matches!(error, AwsError::Refused { code, message, .. }
        if code == "OperationNotPermitted" || message.to_ascii_lowercase().replace(' ', "").contains("blockpublicaccess"));
    if !blocked {
        return problem(PUBLIC, region, error);
    }
    let name = &region.name;
    Undistributed {
        attribute: PUBLIC.to_owned(),
        problem: format!(
            "The account blocks public sharing of images in {name}: {error}\nRemove `public`, or lift the block for all images of the region: aws ec2 disable-image-block-public-access --region {name}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_and_organisations_are_told_apart_and_found_again() {
        let names: BTreeSet<String> = [
            "123456789012",
            "arn:aws:organizations::123456789012:organization/o-1",
            "arn:aws:organizations::123456789012:ou/o-1/ou-2",
        ]
        .map(str::to_owned)
        .into();
        let permissions = list(&names);
        assert_eq!(permissions[0].user_id(), Some("123456789012"));
        assert!(
            permissions[1].organization_arn().is_some() && permissions[2].organizational_unit_arn().is_some()
        );
        assert_eq!(share(&permissions), Share { with: names, public: false });
        let public = [LaunchPermission::builder().group(PermissionGroup::All).build()];
        assert_eq!(share(&public), Share { public: true, ..Share::default() });
    }
}
