//! Taking ports over: a new process gets the listening sockets of the old one, with all connections that wait in them.
//!
//! The old process offers its sockets at a file. The new one connects there, gets them, and says when it is ready; only then
//! does the old one stop accepting. Each is one and the same socket: a process always listens on it, and no connection
//! waits in a queue that is closed. With SO_REUSEPORT each process would have a queue of its own, Linux would reset what
//! waits in the one that closes, and two servers could share a port by mistake.

use std::ffi::OsStr;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, getsockname, recvmsg, sendmsg,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::accept::ACCEPT_PAUSE;
use crate::listener::{BoundListener, ListenAddress, ListenSettings, ListeningSocket};
use crate::socket_file::{place, was_aside_of};

/// For the old process to hand its socket over. It has nothing else to do for that.
const HANDOVER: Duration = Duration::from_secs(2);

/// For the new process to get ready. One that is not by then is not waited for: the old one goes on.
const GETTING_READY: Duration = Duration::from_secs(10);

/// The one byte of both messages. SCM_RIGHTS needs a byte to travel with.
const WORD: &[u8] = b"!";

/// The process that had the socket before. It goes on serving until it is told, or when this is dropped.
#[derive(Debug)]
pub struct Predecessor(UnixStream);

/// Sockets on offer to the process that comes after.
#[derive(Debug)]
pub struct Offer {
    at: UnixListener,
    sockets: Vec<OwnedFd>,
}

/// The most sockets that are handed over.
const SOCKETS: usize = 64;

/// Gets the sockets of listeners from the process that offers them at a file, in the order of the settings; `None` in
/// place of each one that it lacks, and `None` altogether if no process offers any, as at the first start.
pub async fn take(
    path: &Path,
    wanted: &[ListenSettings],
) -> Option<(Vec<Option<BoundListener>>, Predecessor)> {
    match timeout(HANDOVER, try_take(path, wanted)).await.unwrap_or_else(|late| Err(late.into())) {
        Ok(taken) => Some(taken),
        Err(error) => {
            if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
                warn!(path = %path.display(), %error, "nothing to take over");
            }
            None
        }
    }
}

async fn try_take(
    path: &Path,
    wanted: &[ListenSettings],
) -> io::Result<(Vec<Option<BoundListener>>, Predecessor)> {
    let stream = UnixStream::connect(path).await?;
    check_user(&stream)?;
    let sockets = stream.async_io(Interest::READABLE, || receive(&stream)).await?;
    let mut offered =
        sockets.into_iter().map(|socket| Ok((address(&socket)?, socket))).collect::<io::Result<Vec<_>>>()?;
    let mut listeners = Vec::new();
    for settings in wanted {
        let place = offered.iter().position(|(address, _)| is_for(address, &settings.address));
        let socket = place.map(|place| offered.swap_remove(place).1);
        listeners.push(socket.map(|socket| listen(socket, settings)).transpose()?);
    }
    if listeners.iter().all(Option::is_none) {
        let others: Vec<_> = offered.iter().map(|(address, _)| address.to_string()).collect();
        return Err(io::Error::other(format!("the process there listens on {}", others.join(", "))));
    }
    Ok((listeners, Predecessor(stream)))
}

/// Where a socket listens. That of a Unix socket is the name under which it was made.
fn address(socket: &OwnedFd) -> io::Result<ListenAddress> {
    let address = getsockname(socket)?;
    if let Ok(address) = SocketAddr::try_from(address.clone()) {
        return Ok(ListenAddress::Tcp(address));
    }
    let address = SocketAddrUnix::try_from(address)?;
    let path = address.path_bytes().unwrap_or_default();
    Ok(ListenAddress::Unix(OsStr::from_bytes(path).into()))
}

/// Whether a socket is the one that is wanted: port 0 is any of its host, and a Unix socket was made aside.
fn is_for(offered: &ListenAddress, wanted: &ListenAddress) -> bool {
    match (offered, wanted) {
        (ListenAddress::Tcp(offered), ListenAddress::Tcp(wanted)) => {
            offered == wanted || (wanted.port() == 0 && offered.ip() == wanted.ip())
        }
        (ListenAddress::Unix(offered), ListenAddress::Unix(wanted)) => was_aside_of(offered, wanted),
        _ => false,
    }
}

fn listen(socket: OwnedFd, settings: &ListenSettings) -> io::Result<BoundListener> {
    let socket = match settings.address {
        ListenAddress::Tcp(_) => {
            let socket = std::net::TcpListener::from(socket);
            socket.set_nonblocking(true)?;
            ListeningSocket::Tcp(TcpListener::from_std(socket)?)
        }
        ListenAddress::Unix(_) => {
            let socket = std::os::unix::net::UnixListener::from(socket);
            socket.set_nonblocking(true)?;
            ListeningSocket::Unix(UnixListener::from_std(socket)?)
        }
    };
    BoundListener::of(socket, settings)
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
    /// Offers the sockets of listeners at a file, in place of any earlier offer there.
    pub fn at(path: &Path, listeners: &[BoundListener]) -> io::Result<Self> {
        let sockets = listeners.iter().map(|listener| match &listener.socket {
            ListeningSocket::Tcp(socket) => socket.as_fd().try_clone_to_owned(),
            ListeningSocket::Unix(socket) => socket.as_fd().try_clone_to_owned(),
        });
        Ok(Self { at: place(path, None)?, sockets: sockets.collect::<io::Result<_>>()? })
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
        stream.async_io(Interest::WRITABLE, || send(&stream, &self.sockets)).await?;
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

fn send(stream: &UnixStream, sockets: &[OwnedFd]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let sockets: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    ancillary.push(SendAncillaryMessage::ScmRights(&sockets));
    sendmsg(stream, &[IoSlice::new(WORD)], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

fn receive(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    // Without CMSG_CLOEXEC, which macOS has not: this process starts no other.
    recvmsg(stream, &mut [IoSliceMut::new(&mut [0; WORD.len()])], &mut ancillary, RecvFlags::empty())?;
    let sockets = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    let sockets: Vec<_> = sockets.flatten().collect();
    if sockets.is_empty() {
        Err(io::Error::other("the process there handed nothing over"))
    } else {
        Ok(sockets)
    }
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
        listener: BoundListener,
        address: SocketAddr,
    }

    impl Old {
        async fn new() -> (Self, Offer) {
            let folder = TempDir::new().unwrap();
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            let old = Self { folder, listener: listener.into(), address };
            let offer = old.offer();
            (old, offer)
        }

        fn offer(&self) -> Offer {
            Offer::at(&self.path(), std::slice::from_ref(&self.listener)).unwrap()
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("takeover")
        }
    }

    /// Takes the one socket for an address.
    async fn take(path: &Path, address: SocketAddr) -> Option<(TcpListener, SocketAddr, Predecessor)> {
        let (mut listeners, predecessor) = super::take(path, &[ListenAddress::Tcp(address).into()]).await?;
        let Some(BoundListener { socket: ListeningSocket::Tcp(socket), .. }) = listeners.remove(0) else {
            panic!()
        };
        let address = socket.local_addr().unwrap();
        Some((socket, address, predecessor))
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
        let second = tokio::spawn(Offer::at(&old.path(), &[listener.into()]).unwrap().taken());
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
        let relieved = tokio::spawn(old.offer().taken());
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
        let offer = Offer { at, sockets: old.offer().sockets };
        assert!(timeout(10 * ACCEPT_PAUSE, offer.taken()).await.is_err());
    }
}
