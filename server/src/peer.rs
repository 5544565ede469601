//! The other side of a client's connection.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where a connection comes from, and whether it speaks TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address, or the address that a trusted load balancer names in its place.
    pub address: SocketAddr,
    /// Whether it speaks TLS with this server.
    pub is_tls: bool,
}

impl Peer {
    /// A program on this machine: the client of a Unix socket has no address, and counts as a client on the loopback.
    pub const LOCAL: Self =
        Self { address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0), is_tls: false };

    /// The address without its port.
    pub fn ip(&self) -> IpAddr {
        self.address.ip()
    }

    /// The scheme of its requests.
    pub fn scheme(&self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }
}

impl From<SocketAddr> for Peer {
    /// A peer that speaks no TLS.
    fn from(address: SocketAddr) -> Self {
        Self { address, is_tls: false }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}
