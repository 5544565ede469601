//! Taking a port over: a new process gets the listening socket of the old one, with all connections that wait in it.
//!
//! The old process offers its socket at a file. The new one connects there, gets it, and says when it is ready; only then
//! does the old one stop accepting. It is one and the same socket: a process always listens on it, and no connection
//! waits in a queue that is closed. With SO_REUSEPORT each process would have a queue of its own, Linux would reset what
//! waits in the one that closes, and two servers could share a port by mistake.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::ACCEPT_PAUSE;
use crate::socket_file::place;

/// For the old process to hand its socket over. It has nothing else to do for that.
const HANDOVER: Duration = Duration::from_secs(2);

/// For the new process to get ready. One that is not by then is not waited for: the old one goes on.
const GETTING_READY: Duration = Duration::from_secs(10);

/// The one byte of both messages. SCM_RIGHTS needs a byte to travel with.
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
    /// Offers a socket at a file, in place of any earlier offer there.
    pub fn at(path: &Path, listener: &TcpListener) -> io::Result<Self> {
        Ok(Self { at: place(path, None)?, socket: listener.as_fd().try_clone_to_owned()? })
    }

    /// Completes when another process has the socket and is ready. One that is not, or comes to nothing, is forgotten.
    pub async fn taken(self) {
        loop {
            match self.hand_over().await {
                Ok(()) => return info!("relieved: another process has taken the port over"),
                Err(error) => warn!(%error, "not relieved"),
            }
            // Without files to accept the next process, the next try fails as soon as it begins.
            sleep(ACCEPT_PAUSE).await;
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::path::PathBuf;

    use tempfile::TempDir;
    use tokio::net::TcpStream;
    use tokio::time::Instant;

    use super::*;

    /// A port, offered at a file.
    struct Old {
        folder: TempDir,
        listener: TcpListener,
        address: SocketAddr,
    }

    impl Old {
        async fn new() -> (Self, Offer) {
            let folder = TempDir::new().unwrap();
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            let old = Self { folder, listener, address };
            let offer = Offer::at(&old.path(), &old.listener).unwrap();
            (old, offer)
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("takeover")
        }
    }

    #[tokio::test]
    async fn a_new_process_gets_the_port_with_what_waits_there_and_relieves_the_old_one() {
        let (old, offer) = Old::new().await;
        let mut client = TcpStream::connect(old.address).await.unwrap();
        client.write_all(b"?").await.unwrap();
        let relieved = tokio::spawn(offer.taken());
        let (listener, address, predecessor) = take(&old.path(), old.address).await.unwrap();
        assert_eq!(address, old.address);
        assert!(!relieved.is_finished());
        predecessor.relieve().await;
        relieved.await.unwrap();
        drop(old.listener);
        let (mut accepted, peer) = listener.accept().await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        assert_eq!(accepted.read_u8().await.unwrap(), b'?');
        TcpStream::connect(old.address).await.unwrap();
    }

    #[tokio::test]
    async fn a_port_goes_from_one_process_to_the_next_and_on() {
        let (old, offer) = Old::new().await;
        let first = tokio::spawn(offer.taken());
        let (listener, _, predecessor) = take(&old.path(), old.address).await.unwrap();
        // It offers the port itself before it is ready, at the same file.
        let second = tokio::spawn(Offer::at(&old.path(), &listener).unwrap().taken());
        predecessor.relieve().await;
        first.await.unwrap();
        let (listener, address, predecessor) = take(&old.path(), old.address).await.unwrap();
        predecessor.relieve().await;
        second.await.unwrap();
        assert_eq!((address, listener.local_addr().unwrap()), (old.address, old.address));
        let files: Vec<_> =
            std::fs::read_dir(old.folder.path()).unwrap().map(|file| file.unwrap().path()).collect();
        assert_eq!(files, [old.path()]);
    }

    #[tokio::test]
    async fn a_port_is_taken_for_its_own_address_and_for_any_port_of_its_host() {
        let (old, offer) = Old::new().await;
        let relieved = tokio::spawn(offer.taken());
        for other in ["127.0.0.1:1", "127.0.0.2:0", "[::1]:0", "0.0.0.0:0"] {
            assert!(take(&old.path(), other.parse().unwrap()).await.is_none(), "{other}");
        }
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (_, address, predecessor) = take(&old.path(), any).await.unwrap();
        assert_eq!(address, old.address);
        predecessor.relieve().await;
        relieved.await.unwrap();
    }

    #[tokio::test]
    async fn there_is_nothing_to_take_where_no_process_offers() {
        let (old, offer) = Old::new().await;
        drop(offer);
        assert!(take(&old.path(), old.address).await.is_none(), "a file that a process has left behind");
        assert!(take(&old.folder.path().join("none"), old.address).await.is_none(), "no file");
        std::fs::remove_file(old.path()).unwrap();
        std::fs::write(old.path(), "text").unwrap();
        assert!(take(&old.path(), old.address).await.is_none(), "another file");
        // A new offer takes its place.
        let relieved = tokio::spawn(Offer::at(&old.path(), &old.listener).unwrap().taken());
        take(&old.path(), old.address).await.unwrap().2.relieve().await;
        relieved.await.unwrap();
    }

    #[tokio::test]
    async fn a_process_that_hands_nothing_over_is_no_predecessor() {
        let (old, offer) = Old::new().await;
        drop(offer);
        std::fs::remove_file(old.path()).unwrap();
        let at = UnixListener::bind(old.path()).unwrap();
        for words in [WORD, b""] {
            let says = async {
                let (mut stream, _) = at.accept().await.unwrap();
                stream.write_all(words).await.unwrap();
            };
            let path = old.path();
            assert!(tokio::join!(take(&path, old.address), says).0.is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_says_nothing_is_not_waited_for() {
        let (old, offer) = Old::new().await;
        let start = Instant::now();
        assert!(take(&old.path(), old.address).await.is_none());
        assert_eq!(start.elapsed(), HANDOVER);
        drop(offer);
    }

    #[tokio::test(start_paused = true)]
    async fn the_old_process_goes_on_until_a_new_one_is_ready() {
        let (old, offer) = Old::new().await;
        let relieved = tokio::spawn(offer.taken());
        // One comes to nothing, and one is too slow.
        drop(take(&old.path(), old.address).await.unwrap());
        let slow = take(&old.path(), old.address).await.unwrap();
        let start = Instant::now();
        sleep(GETTING_READY).await;
        let (_, _, predecessor) = take(&old.path(), old.address).await.unwrap();
        assert_eq!(start.elapsed(), GETTING_READY + ACCEPT_PAUSE);
        slow.2.relieve().await;
        assert!(!relieved.is_finished());
        predecessor.relieve().await;
        relieved.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_offer_that_cannot_be_accepted_is_tried_again_after_a_pause() {
        let (old, _) = Old::new().await;
        // A socket that is ready and accepts nothing, as if there were no more files.
        let (socket, other) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(other);
        socket.set_nonblocking(true).unwrap();
        let at = UnixListener::from_std(OwnedFd::from(socket).into()).unwrap();
        let offer = Offer { at, socket: old.listener.as_fd().try_clone_to_owned().unwrap() };
        assert!(timeout(10 * ACCEPT_PAUSE, offer.taken()).await.is_err());
    }
}
