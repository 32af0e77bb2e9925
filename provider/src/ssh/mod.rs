//! SSH to a guest, through a port of the host's loopback address or at an address of its own.
//!
//! Knows no backend. Waits for the server's first words rather than for an open port, pins the host key at first sight, and
//! hands values over without a shell ever reading them as code.

mod banner;
mod command;
mod forward;
mod key;
mod known_host;
mod script;
mod session;
mod wait;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub use banner::wait_for_banner;
pub use command::LoginCommand;
pub use forward::Incoming;
pub use key::{generate, load, public_key};
pub use known_host::KnownHost;
pub use script::{line as shell_line, quote};
pub use session::{Exec, Input, Login, Session};
pub use wait::{log_in, wait_for_cloud_init};

/// Why SSH to a guest failed.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// The connection could not be made or broke before anybody was logged in.
    #[error("could not reach the guest's SSH server at {address}")]
    Connect {
        /// Address and port.
        address: String,
        /// Why.
        #[source]
        source: Box<russh::Error>,
    },
    /// Another machine answers, or the guest has made itself a new key.
    #[error("the guest's SSH host key is not the one recorded in {}; if that is expected, remove the file", path.display())]
    HostKeyChanged {
        /// The record.
        path: PathBuf,
    },
    /// The server spoke, and then no more: it is slow, or the guest restarted.
    #[error("the guest's SSH server fell silent while logging in; it had {limit:?}")]
    Silent {
        /// The time that it had.
        limit: Duration,
    },
    /// The guest does not take our key.
    #[error("the guest does not let {username} in with this SSH key")]
    Denied {
        /// Who.
        username: String,
    },
    /// The connection broke while a command ran.
    #[error("the SSH connection to the guest broke")]
    Lost(#[from] russh::Error),
    /// The command took too long.
    #[error("the command was given up after {limit:?}, its time limit")]
    Timeout {
        /// The time that it had.
        limit: Duration,
    },
    /// The server does not lead connections to us.
    #[error(
        "the guest's SSH server does not forward ports to us: its sshd_config has `AllowTcpForwarding no` or `DisableForwarding yes`"
    )]
    NoForwarding,
    /// The operation was cancelled.
    #[error("the command was given up because the operation was cancelled")]
    Cancelled,
    /// A value that no environment can hold.
    #[error("the environment variable {name:?} has a name or a value that no environment can hold")]
    Variable {
        /// Its name.
        name: String,
    },
    /// A command that no argument can hold.
    #[error("the command contains a NUL character")]
    Command,
    /// A file could not be copied into the guest.
    #[error("could not copy to {destination} in the guest: {reason}")]
    Copy {
        /// The path in the guest.
        destination: String,
        /// What the guest said.
        reason: String,
    },
    /// A key file.
    #[error("{} is not a usable private key: {reason}", path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file on the host.
    #[error("could not use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}
