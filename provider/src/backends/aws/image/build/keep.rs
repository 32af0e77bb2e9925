//! A builder that stays for a look after its build failed.

use super::{Build, BuildError};
use crate::backends::aws::image::Interface;
use crate::backends::aws::region::{self, is_gone, tag_filter};
use crate::backends::aws::tags;
use crate::domain::backend::causes;
use crate::ssh::LoginCommand;

/// The builder stays: says how to log in.
pub(super) async fn kept(build: &Build<'_>, source: BuildError) -> BuildError {
    if let Err(error) = build.aws.keep(&build.region.name, build.id).await {
        let error = causes(&error);
        tracing::warn!(build = %build.id, error, "the deadline of a kept builder cannot be taken off: other computers remove it once that has passed");
    }
    let tag = tag_filter(tags::BUILD, [build.id.to_string()]);
    let found = region::instances(&build.region.ec2, tag).await.unwrap_or_default();
    let Some(instance) = found.into_iter().find(|instance| !is_gone(instance)) else { return source };
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
