//! Connects to the first of several addresses that answers (RFC 8305). A silent address delays the next one by a moment, not
//! by a whole attempt.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How long an attempt has before the next begins beside it (RFC 8305 §5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Connects to the first address that accepts. Dropping the future ends all attempts.
pub(super) async fn dial(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let stream = match addresses[..] {
        [address] => TcpStream::connect(address).await?,
        _ => race(alternate(addresses)).await?,
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut next = addresses.into_iter();
    let mut fault = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        match next.next() {
            Some(address) => drop(attempts.spawn(TcpStream::connect(address))),
            None if attempts.is_empty() => return Err(fault),
            None => {}
        }
        tokio::select! {
            Some(ended) = attempts.join_next() => match ended.map_err(io::Error::other).and_then(|ended| ended) {
                Ok(stream) => return Ok(stream),
                Err(error) => fault = error,
            },
            () = sleep(ATTEMPT_DELAY), if next.len() > 0 => {}
        }
    }
}

/// The addresses, with the two families in turn (RFC 8305 §4). The family of the first address comes first.
fn alternate(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().map(SocketAddr::is_ipv4) else { return addresses };
    let (preferred, others): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first);
    let (mut preferred, mut others) = (preferred.into_iter(), others.into_iter());
    let mut all = Vec::with_capacity(preferred.len() + others.len());
    while preferred.len() + others.len() > 0 {
        all.extend(preferred.next());
        all.extend(others.next());
    }
    all
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use socket2::{Domain, Socket, Type};
    use tokio::net::TcpListener;
    use tokio::time::{Instant, timeout};

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// A socket whose queue is full, so that the kernel answers no further SYN.
    async fn silent() -> (Socket, Vec<TcpStream>, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        while let Ok(Ok(stream)) = timeout(ATTEMPT_DELAY, TcpStream::connect(address)).await {
            queued.push(stream);
        }
        (socket, queued, address)
    }

    #[tokio::test]
    async fn a_silent_address_delays_the_next_by_a_moment() {
        let (_socket, _queued, silent) = silent().await;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let lively = listener.local_addr().unwrap();
        let start = Instant::now();
        assert_eq!(dial(vec![silent, lively]).await.unwrap().peer_addr().unwrap(), lively);
        // The kernel would try the silent address again after a second.
        assert!((ATTEMPT_DELAY..4 * ATTEMPT_DELAY).contains(&start.elapsed()), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn an_address_that_refuses_delays_nothing_and_the_last_fault_is_told() {
        let gone = |listener: std::net::TcpListener| listener.local_addr().unwrap();
        let [one, other] = [(); 2].map(|()| gone(std::net::TcpListener::bind("127.0.0.1:0").unwrap()));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let lively = listener.local_addr().unwrap();
        assert_eq!(dial(vec![one, other, lively]).await.unwrap().peer_addr().unwrap(), lively);
        for addresses in [vec![one], vec![one, other]] {
            assert_eq!(dial(addresses).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        }
        assert_eq!(dial(Vec::new()).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_families_take_turns() {
        let all = ["[::1]:1", "[::2]:1", "1.1.1.1:1", "[::3]:1", "2.2.2.2:1"].map(address);
        let turns = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"].map(address);
        assert_eq!(alternate(all.into()), turns);
        assert_eq!(alternate(Vec::new()), []);
    }
}
