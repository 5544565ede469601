//! The sockets that a server listens on: an address or the file of a Unix socket, with or without TLS and the PROXY protocol.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};

use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::peer::Peer;
use crate::program::bind;
use crate::socket_file::bind_file;
use crate::tls::{Certificates, Handshakes};

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An address and port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// The file of a Unix socket.
    Unix(PathBuf),
}

/// The settings of a listener.
#[derive(Clone, Debug)]
pub struct ListenSettings {
    /// Where it listens.
    pub address: ListenAddress,
    /// The certificates that it shows; without them it speaks no TLS.
    pub certificates: Option<Arc<Certificates>>,
    /// The load balancers, which must name their clients by the PROXY protocol.
    pub balancers: Vec<IpNet>,
}

/// A socket that listens, with its settings.
#[derive(Debug)]
pub struct BoundListener {
    pub(crate) socket: ListeningSocket,
    address: ListenAddress,
    pub(crate) entrance: Entrance,
}

#[derive(Debug)]
pub(crate) enum ListeningSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The protocols that a connection passes before its first request. Most pass none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entrance {
    pub(crate) tls: Option<(Handshakes, Arc<Certificates>)>,
    pub(crate) balancers: Arc<[IpNet]>,
}

/// A connection that was accepted.
#[derive(Debug)]
pub(crate) enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl ListenAddress {
    /// The port, if it has one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(address) => Some(address.port()),
            Self::Unix(_) => None,
        }
    }

    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl From<ListenAddress> for ListenSettings {
    /// A listener without TLS, for everyone.
    fn from(address: ListenAddress) -> Self {
        Self { address, certificates: None, balancers: Vec::new() }
    }
}

impl From<TcpListener> for BoundListener {
    /// A listener without TLS, for everyone.
    fn from(socket: TcpListener) -> Self {
        let address = socket.local_addr().unwrap_or(Peer::LOCAL.address);
        Self {
            socket: ListeningSocket::Tcp(socket),
            address: ListenAddress::Tcp(address),
            entrance: Entrance::default(),
        }
    }
}

impl BoundListener {
    /// Starts to listen. The error says why that fails, and what to do.
    pub fn bind(settings: &ListenSettings, flag: &str) -> Result<Self, String> {
        let socket = match &settings.address {
            ListenAddress::Tcp(address) => ListeningSocket::Tcp(bind(*address, flag)?.0),
            ListenAddress::Unix(path) => ListeningSocket::Unix(bind_file(path, flag)?),
        };
        Self::of(socket, settings).map_err(|error| format!("cannot listen on {}: {error}", settings.address))
    }

    /// A listener with these settings over a socket that listens already.
    pub(crate) fn of(socket: ListeningSocket, settings: &ListenSettings) -> io::Result<Self> {
        let address = match &socket {
            ListeningSocket::Tcp(socket) => ListenAddress::Tcp(socket.local_addr()?),
            ListeningSocket::Unix(_) => settings.address.clone(),
        };
        let tls = match &settings.certificates {
            Some(certificates) => Some((Handshakes::new(certificates.clone())?, certificates.clone())),
            None => None,
        };
        let entrance = Entrance { tls, balancers: settings.balancers.clone().into() };
        Ok(Self { socket, address, entrance })
    }

    /// The address, with the actual port.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    pub(crate) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Accepted, Peer)>> {
        match &self.socket {
            ListeningSocket::Tcp(socket) => socket
                .poll_accept(cx)
                .map_ok(|(stream, address)| (Accepted::Tcp(stream), Peer::from(address))),
            ListeningSocket::Unix(socket) => {
                socket.poll_accept(cx).map_ok(|(stream, _)| (Accepted::Unix(stream), Peer::LOCAL))
            }
        }
    }
}

impl Entrance {
    /// Whether a connection of this peer begins with its first request.
    pub(crate) fn is_open(&self, peer: &Peer) -> bool {
        self.tls.is_none() && !self.names_client(peer)
    }

    /// Whether the peer is a load balancer that names its client.
    pub(crate) fn names_client(&self, peer: &Peer) -> bool {
        let ip = peer.ip().to_canonical();
        self.balancers.iter().any(|network| network.contains(&ip))
    }
}

impl fmt::Display for BoundListener {
    /// The address as it is announced.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_url(&self.address, self.entrance.tls.is_some(), f)
    }
}

impl fmt::Display for ListenSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_url(&self.address, self.certificates.is_some(), f)
    }
}

fn write_url(address: &ListenAddress, is_tls: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match address {
        ListenAddress::Tcp(address) if is_tls => write!(f, "https://{address}"),
        address => write!(f, "{address}"),
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
