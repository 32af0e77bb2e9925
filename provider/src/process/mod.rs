//! Programs that Sindri runs: a command as a value, its supervised run, its log.
//!
//! Knows nothing of images or machines. No child ever inherits our stdout or stderr: the host that started
//! the provider waits for their end.

pub mod claims;
mod command;
pub mod enter;
mod follow;
mod hand_over;
pub mod leftover;
mod lines;
pub mod lock;
mod log;
mod output;
pub mod private;
mod redact;
mod run;
mod space;
pub mod supervise;
pub mod tail;
mod turn;

pub use command::{Command, TRUSTED};
pub use follow::Following;
pub use hand_over::HandOver;
pub use log::BuildLog;
pub use output::{Output, Stream};
pub use redact::{Redactor, Secret};
pub use run::{Detached, Finished, Limits, ProcessError, Runner, programs, programs_in, search_path};
pub use space::{full_disk, says_no_space};
pub use supervise::Ending;
pub use turn::{Turn, TurnError};
