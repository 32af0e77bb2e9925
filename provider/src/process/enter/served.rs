//! A listener of ours on the loopback of the program's own network, served from outside: a socket stays in the network in which
//! it was made, whoever holds it. Nothing listens on the host.
//!
//! Inside, the listener is made and handed out through a Unix socket in the area, which a program in a tree does not see.

use std::fs::{self, File, Permissions};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg, socket_with,
};
use tokio::io::Interest;
use tokio::net::UnixListener;

use crate::process::private;

/// The listener's port, which nobody else can have there.
pub const PORT: u16 = 3128;

/// Where a listener is awaited. Dropping it takes the place away.
#[derive(Debug)]
pub struct Door {
    path: PathBuf,
    place: UnixListener,
}

impl Door {
    /// A new socket of this name in a folder that the namespace's root reaches, and nobody whom we do not know.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(folder: &Path, name: &str) -> io::Result<Self> {
        let path = folder.join(name);
        private::remove_file(&path)?;
        // A socket's path has 108 bytes at most; this way it has few.
        let folder = File::open(folder)?;
        let place = UnixListener::bind(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))?;
        // The namespace's root is somebody else.
        fs::set_permissions(&path, Permissions::from_mode(0o666))?;
        Ok(Self { path, place })
    }

    /// Waits for the listener of the program that is entered.
    ///
    /// # Errors
    /// When something else comes.
    pub async fn listener(&self) -> io::Result<tokio::net::TcpListener> {
        let (stream, _) = self.place.accept().await?;
        let listener = stream.async_io(Interest::READABLE, || receive(&stream)).await?;
        let listener = TcpListener::from(listener);
        listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(listener)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes the listener, in a network that is new, and hands it out.
pub(super) fn hand_out(socket: &Path) -> io::Result<()> {
    loopback_up()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT))?;
    let stream = UnixStream::connect(socket)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let handed = [listener.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&handed));
    sendmsg(&stream, &[IoSlice::new(b"l")], &mut control, SendFlags::empty())?;
    Ok(())
}

fn receive(stream: &tokio::net::UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let handed = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut handed) => handed.next(),
        _ => None,
    });
    handed.ok_or_else(|| io::Error::other("no listener was handed out"))
}

/// In a new network even the loopback interface, which is its first, is down. Asked for in the words of rtnetlink(7).
fn loopback_up() -> io::Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const REQUEST_AND_ACK: u16 = 1 | 4;
    const UP: u32 = 1;
    let mut message = Vec::new();
    // struct nlmsghdr: length, type, flags, sequence, port.
    message.extend(32_u32.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(REQUEST_AND_ACK.to_ne_bytes());
    message.extend([0; 8]);
    // struct ifinfomsg: family, type, index, flags, which of them change.
    message.extend([0; 4]);
    message.extend(1_u32.to_ne_bytes());
    message.extend(UP.to_ne_bytes());
    message.extend(UP.to_ne_bytes());
    // Of its protocols NETLINK_ROUTE is number 0.
    let kernel = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&kernel, &message, SendFlags::empty())?;
    // A header, then 0 or the negative number of an error.
    let mut answer = [0; 64];
    let (_, length) = recv(&kernel, &mut answer, RecvFlags::empty())?;
    let code = answer[..length].get(16..20).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::other("the kernel's answer is too short")),
    }
}
