//! What stays for a look after a build failed: its builder, or the finished image and a machine from it.

use aws_sdk_ec2::types::Instance;

use super::{Build, BuildError};
use crate::backends::aws::image::{Interface, Login};
use crate::backends::aws::region::{self, is_gone, tag_filter};
use crate::backends::aws::tags;
use crate::domain::causes;
use crate::ssh::LoginCommand;

/// Why it stays, in the user's words.
const BECAUSE: &str = "because of `on_error = \"keep\"`.";

/// Something stays: says what, and how to log in. `image` is the finished one, if there is one.
pub(super) async fn kept(build: &Build<'_>, source: BuildError, image: Option<&str>) -> BuildError {
    if let Err(error) = build.aws.keep(&build.region.name, build.id).await {
        let error = causes(&error);
        tracing::warn!(build = %build.id, error, "the deadline of what is kept cannot be taken off: other computers remove it once that has passed");
    }
    let tag = tag_filter(tags::BUILD, [build.id.to_string()]);
    let found = region::instances(&build.region.ec2, tag).await.unwrap_or_default();
    let instance = found.into_iter().find(|instance| !is_gone(instance));
    let login = instance.as_ref().map(|instance| login_command(build, instance));
    let id = instance.as_ref().and_then(Instance::instance_id).unwrap_or_default();
    let left = match (login, image.filter(|_| source.is_of_the_image())) {
        (Some(login), None) => format!("The builder {id} was left running {BECAUSE} Log in with:\n  {login}"),
        (Some(login), Some(image)) => format!(
            "The image {image} and the machine {id} from it were left {BECAUSE} Log in with:\n  {login}"
        ),
        (None, Some(image)) => format!("The image {image} was left {BECAUSE}"),
        (None, None) => return source,
    };
    BuildError::Kept { source: Box::new(source), left }
}

/// Where SSH to an instance of the build is reached.
pub(super) fn address<'a>(login: &'a Login, instance: &'a Instance) -> Option<&'a str> {
    let own = match login.interface {
        Interface::Public => instance.public_ip_address().or(instance.private_ip_address()),
        Interface::Private | Interface::SessionManager => instance.private_ip_address(),
    };
    login.host.as_deref().or(own)
}

fn login_command(build: &Build<'_>, instance: &Instance) -> String {
    let login = &build.spec.builder.login;
    let own = build.dir.join("ssh_key");
    let command = LoginCommand {
        host: address(login, instance).unwrap_or("its address"),
        port: login.port.unwrap_or(22),
        username: &login.username,
        private_key: Some(login.private_key_path.as_deref().unwrap_or(&own)),
        known_host: None,
    };
    command.line()
}
