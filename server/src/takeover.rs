//! Taking ports over: a new process gets the listening sockets of the old one, with all connections that wait in them.
//!
//! The old process offers its sockets at a file. The new one connects there, gets them, and says when it is ready; only then
//! does the old one stop accepting. Both processes have the very same sockets, so one of them always listens, and no
//! connection waits in a queue that is closed. With SO_REUSEPORT each process would have a queue of its own, Linux would reset
//! the connections that wait in the queue that closes, and two servers could share a port by mistake.

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

/// The time for the old process to hand its sockets over. It has nothing else to do for that.
const HANDOVER: Duration = Duration::from_secs(2);

/// The time for the new process to get ready. The old process does not wait longer: it goes on serving.
const GETTING_READY: Duration = Duration::from_secs(10);

/// Both messages are this one byte. SCM_RIGHTS needs at least one byte to travel with.
const WORD: &[u8] = b"!";

/// The process that had the sockets before. It goes on serving until it is relieved, or this is dropped.
#[derive(Debug)]
pub struct Predecessor(UnixStream);

/// Sockets on offer to the next process.
#[derive(Debug)]
pub struct Offer {
    at: UnixListener,
    sockets: Vec<OwnedFd>,
}

/// The most sockets that are handed over.
const SOCKETS: usize = 64;

/// Gets the sockets of listeners from the process that offers them at a file, in the order of the settings. The result has
/// `None` in place of a socket that the other process lacks. It is `None` as a whole if no process offers any, as at the first
/// start.
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

/// The address of a socket. A Unix socket has the path under which it was made.
fn address(socket: &OwnedFd) -> io::Result<ListenAddress> {
    let address = getsockname(socket)?;
    if let Ok(address) = SocketAddr::try_from(address.clone()) {
        return Ok(ListenAddress::Tcp(address));
    }
    let address = SocketAddrUnix::try_from(address)?;
    let path = address.path_bytes().unwrap_or_default();
    Ok(ListenAddress::Unix(OsStr::from_bytes(path).into()))
}

/// Whether a socket has the wanted address. Port 0 matches any port of its host, and a Unix socket has the path beside its
/// file where it was made.
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
    /// Tells the old process to stop accepting.
    pub async fn relieve(mut self) {
        match self.0.write_all(WORD).await {
            Ok(()) => info!("taken over"),
            // The old process has ended by itself.
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

    /// Completes when another process has the sockets and is ready. A process that is too slow or gives up is forgotten.
    pub async fn taken(self) {
        loop {
            match self.hand_over().await {
                Ok(()) => return info!("relieved: another process has taken the port over"),
                Err(error) => warn!(%error, "not relieved"),
            }
            // If no files are left to accept the next process, the next try fails at once, so wait a moment.
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

/// Refuses a process of another user.
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
    // Without CMSG_CLOEXEC, which macOS does not have: this process starts no other process.
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
        // The new process offers the port at the same file before it is ready itself.
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
        // The first process gives up, and the second one is too slow.
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
        // A socket that is ready but never accepts, as if there were no more files.
        let (socket, other) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(other);
        socket.set_nonblocking(true).unwrap();
        let at = UnixListener::from_std(OwnedFd::from(socket).into()).unwrap();
        let offer = Offer { at, sockets: old.offer().sockets };
        assert!(timeout(10 * ACCEPT_PAUSE, offer.taken()).await.is_err());
    }
}
