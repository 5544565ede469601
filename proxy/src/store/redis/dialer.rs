//! Opens streams to a Redis, at its present address.

use std::fmt;
use std::io;
use std::sync::Arc;

use bb8_redis::redis::RedisConnectionInfo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::address::NodeAddress;
use super::sentinels::Sentinels;
use super::tls::Tls;

/// A stream of bytes to a Redis.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> ByteStream for S {}

/// How a client logs in to a Redis, and which database it selects.
#[derive(Clone, Debug, Default)]
pub(super) struct Login {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: i64,
    pub(super) tls: Option<Tls>,
}

impl Login {
    /// The login in the library's form. A user with only the necessary rights may not set the library's name.
    pub(super) fn info(&self) -> RedisConnectionInfo {
        let mut info = RedisConnectionInfo::default().set_db(self.database).set_skip_set_lib_name();
        if let Some(user) = &self.user {
            info = info.set_username(user);
        }
        if let Some(password) = &self.password {
            info = info.set_password(password);
        }
        info
    }
}

/// Where a Redis is, and how to log in.
#[derive(Debug)]
pub(super) struct Dialer {
    pub(super) place: Whereabouts,
    pub(super) login: Arc<Login>,
}

/// Where a Redis is.
#[derive(Debug)]
pub(super) enum Whereabouts {
    At(NodeAddress),
    /// Where the Sentinels say that the master is.
    Master(Arc<Sentinels>),
}

impl fmt::Display for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => fmt::Display::fmt(address, f),
            Self::Master(sentinels) => f.write_str(&sentinels.known()),
        }
    }
}

impl Dialer {
    /// Opens a stream on which no byte was sent.
    pub(super) async fn dial(&self) -> io::Result<Box<dyn ByteStream>> {
        match &self.place {
            Whereabouts::At(address) => dial(address, &self.login).await,
            Whereabouts::Master(sentinels) => dial(&sentinels.master().await?, &self.login).await,
        }
    }

    /// The Sentinels, if only a master is wanted.
    pub(super) fn sentinels(&self) -> Option<&Sentinels> {
        match &self.place {
            Whereabouts::At(_) => None,
            Whereabouts::Master(sentinels) => Some(sentinels),
        }
    }
}

/// Opens a stream to this address, over TLS if the login wants it.
pub(super) async fn dial(address: &NodeAddress, login: &Login) -> io::Result<Box<dyn ByteStream>> {
    Ok(match (address, &login.tls) {
        (NodeAddress::Unix(path), _) => Box::new(UnixStream::connect(path).await?),
        (NodeAddress::Tcp { host, port }, None) => Box::new(dial_tcp(host, *port).await?),
        (NodeAddress::Tcp { host, port }, Some(tls)) => {
            Box::new(tls.connect(host, dial_tcp(host, *port).await?).await?)
        }
    })
}

async fn dial_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    /// Shorter than the idle times of usual balancers and firewalls.
    const KEEPALIVE: std::time::Duration = std::time::Duration::from_secs(30);
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    socket2::SockRef::from(&stream)
        .set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))?;
    Ok(stream)
}
