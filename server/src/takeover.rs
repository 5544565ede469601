//! Taking a port over: a new process gets the listening socket of the old one, with all connections that wait in it.
//!
//! The old process offers its socket at a file. The new one connects there, gets it, and says when it is ready; only then
//! does the old one stop accepting. It is one and the same socket: there is always somebody who listens, and no connection
//! waits in a queue that is closed. With SO_REUSEPORT each process would have a queue of its own, Linux would reset what
//! waits in the one that closes, and two servers could share a port by mistake.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::time::timeout;
use tracing::{info, warn};

/// For the old process to hand its socket over. It has nothing else to do for that.
const HANDOVER: Duration = Duration::from_secs(2);

/// For the new process to get ready. One that is not by then is not waited for: the old one goes on.
const GETTING_READY: Duration = Duration::from_secs(10);

/// What both say; SCM_RIGHTS needs a byte to go with, and so does "ready".
const WORD: &[u8] = b"!";

/// The process that had the socket before. It goes on serving until it is told, or when this is dropped.
#[derive(Debug)]
pub struct Predecessor(UnixStream);

/// A socket on offer to the process that comes after.
#[derive(Debug)]
pub struct Offer {
    at: UnixListener,
    socket: OwnedFd,
}

/// Gets the socket for an address from the process that offers it at a file. `None` if there is no such process, which is
/// the rule at the first start.
pub async fn take(path: &Path, address: SocketAddr) -> Option<(TcpListener, SocketAddr, Predecessor)> {
    match timeout(HANDOVER, try_take(path, address)).await.unwrap_or_else(|late| Err(late.into())) {
        Ok(taken) => Some(taken),
        Err(error) => {
            if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
                warn!(path = %path.display(), %error, "nothing to take over");
            }
            None
        }
    }
}

async fn try_take(path: &Path, wanted: SocketAddr) -> io::Result<(TcpListener, SocketAddr, Predecessor)> {
    let stream = UnixStream::connect(path).await?;
    check_user(&stream)?;
    let socket = stream.async_io(Interest::READABLE, || receive(&stream)).await?;
    let listener = std::net::TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    if address != wanted && (wanted.port() != 0 || address.ip() != wanted.ip()) {
        return Err(io::Error::other(format!("the process there listens on {address}")));
    }
    Ok((TcpListener::from_std(listener)?, address, Predecessor(stream)))
}

impl Predecessor {
    /// Tells it that it may stop accepting.
    pub async fn relieve(mut self) {
        match self.0.write_all(WORD).await {
            Ok(()) => info!("taken over"),
            // It has ended by itself.
            Err(error) => warn!(%error, "the predecessor is gone"),
        }
    }
}

impl Offer {
    /// Offers a socket at a file, in place of whoever did so before.
    pub fn at(path: &Path, listener: &TcpListener) -> io::Result<Self> {
        // Made aside and moved there, so that there is no moment without one.
        let aside = aside(path);
        let _ = std::fs::remove_file(&aside);
        let at = UnixListener::bind(&aside)?;
        std::fs::rename(&aside, path)?;
        Ok(Self { at, socket: listener.as_fd().try_clone_to_owned()? })
    }

    /// Completes when another process has the socket and is ready. One that is not, or comes to nothing, is forgotten.
    pub async fn taken(self) {
        loop {
            match self.hand_over().await {
                Ok(()) => return info!("relieved: another process has taken the port over"),
                Err(error) => warn!(%error, "not relieved"),
            }
        }
    }

    async fn hand_over(&self) -> io::Result<()> {
        let (mut stream, _) = self.at.accept().await?;
        check_user(&stream)?;
        stream.async_io(Interest::WRITABLE, || send(&stream, &self.socket)).await?;
        timeout(GETTING_READY, stream.read_exact(&mut [0; WORD.len()])).await??;
        Ok(())
    }
}

/// Beside the file, of this process alone.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    name.into()
}

/// Ports are taken over from and by the same user only.
fn check_user(stream: &UnixStream) -> io::Result<()> {
    let (theirs, ours) = (stream.peer_cred()?.uid(), rustix::process::geteuid().as_raw());
    match theirs == ours {
        true => Ok(()),
        false => Err(io::Error::other(format!("the process there is of user {theirs}, this one of {ours}"))),
    }
}

fn send(stream: &UnixStream, socket: &OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let sockets = [socket.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&sockets));
    sendmsg(stream, &[IoSlice::new(WORD)], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

fn receive(stream: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    // Without CMSG_CLOEXEC, which macOS has not: this process starts no other.
    recvmsg(stream, &mut [IoSliceMut::new(&mut [0; WORD.len()])], &mut ancillary, RecvFlags::empty())?;
    let sockets = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    sockets.flatten().next().ok_or_else(|| io::Error::other("the process there handed nothing over"))
}
