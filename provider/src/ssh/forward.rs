//! Connections that are made to a port of the server's and come to us.

use std::sync::{Arc, Mutex, PoisonError};

use russh::client::Msg;
use russh::{ChannelOpenFailure, ChannelStream};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, OwnedPermit};

/// How many wait to be taken: as many as a listener of the system's keeps.
const BACKLOG: usize = 128;

/// The connections, in the order in which they were made.
#[derive(Debug)]
pub struct Incoming(mpsc::Receiver<ChannelStream<Msg>>);

impl Incoming {
    /// The next one; none when the login has ended.
    pub async fn next(&mut self) -> Option<ChannelStream<Msg>> {
        self.0.recv().await
    }
}

/// Where a login puts them, once somebody expects any.
pub(super) type Place = Arc<Mutex<Option<mpsc::Sender<ChannelStream<Msg>>>>>;

pub(super) fn expect(place: &Place) -> Incoming {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
    Incoming(receiver)
}

/// Room for one more. Never waits: it is called by what reads the whole login.
pub(super) fn admit(place: &Place) -> Result<OwnedPermit<ChannelStream<Msg>>, ChannelOpenFailure> {
    let sender = place.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let sender = sender.ok_or(ChannelOpenFailure::AdministrativelyProhibited)?;
    sender.try_reserve_owned().map_err(|error| match error {
        TrySendError::Full(_) => ChannelOpenFailure::ResourceShortage,
        TrySendError::Closed(_) => ChannelOpenFailure::AdministrativelyProhibited,
    })
}
