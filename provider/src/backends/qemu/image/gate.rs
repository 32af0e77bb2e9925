//! The way of a guest to its mirrors: a port of its loopback address, of which its SSH server brings us the connections. QEMU's
//! network leads nowhere else, and nothing listens on the host.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::booted::ssh_error;
use super::mirrors::{self, Mirrors, PRINT_SOURCES};
use super::reach::Reach;
use super::{Build, BuildError};
use crate::domain::Environment;
use crate::process::Limits;
use crate::ssh::{Exec, Input, Session, SshError};

/// How long reading the guest's sources may take.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// An open way. It ends with this, or with the login.
pub(super) struct Gate {
    mirrors: Arc<Mirrors>,
    port: u16,
    _served: AbortOnDropHandle<()>,
}

impl Gate {
    /// Opens it in the guest of this login.
    ///
    /// # Errors
    /// When its SSH server does not want to.
    pub(super) async fn open(session: &Session, mirrors: Arc<Mirrors>) -> Result<Self, BuildError> {
        let opened = session.listen().await.map_err(|error| match error {
            SshError::NoForwarding => BuildError::NoWay { reason: error.to_string() },
            error => ssh_error("let the guest reach package mirrors")(error),
        });
        let (port, incoming) = opened?;
        let served = tokio::spawn(Arc::clone(&mirrors).serve_incoming(incoming));
        Ok(Self { mirrors, port, _served: AbortOnDropHandle::new(served) })
    }

    /// What it leads to.
    pub(super) fn mirrors(&self) -> &Arc<Mirrors> {
        &self.mirrors
    }

    /// Tells a program of the guest where it is.
    pub(super) fn tell(&self, environment: &mut Environment) {
        mirrors::tell(environment, self.port);
    }
}

/// The mirrors that a base image's own APT sources name: no step has run yet.
///
/// # Errors
/// When they cannot be read, or name none.
pub(super) async fn mirrors_of(build: &Build<'_>, session: &Session) -> Result<Arc<Mirrors>, BuildError> {
    let none = Environment::default();
    let exec = Exec { command: PRINT_SOURCES, environment: &none, input: Input::Empty };
    let limits = Limits { cancel: build.cancel.clone(), timeout: Some(PATIENCE) };
    let printed = session.exec(&exec, None, &limits).await;
    let printed = printed.map_err(ssh_error("read the guest's APT sources"))?;
    let reach = Reach::of_host(build.here()).await?;
    Mirrors::new(&mirrors::urls_of_sources(&printed.output), &reach, build.log)
}
