//! Thousands of idle connections, hundreds of slow ones, and no file descriptors left: other clients are still
//! answered.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::timeout;

use crate::load::{Answer, CLIENTS, Client, Habit, Load};
use crate::origin::Origin;
use crate::over::Over;
use crate::program::Proxy;
use crate::{PATIENCE, scenario_length, turn};

/// The number of idle and of slow connections. A long run, which is for figures, has more.
fn crowd() -> (usize, usize) {
    if scenario_length() >= Duration::from_secs(30) { (8000, 200) } else { (500, 50) }
}

fn settings(origin: &Origin, rest: &str) -> String {
    format!(
        "listen = \"127.0.0.1:0\"\norigin = \"http://{}\"\nstore = \"memory\"\n{rest}[[cache_page]]\npath = \"/p/*\"\n",
        origin.address
    )
}

/// An idle connection, on which a request may have been answered before.
async fn idle(server: SocketAddr, is_reused: bool) -> TcpStream {
    let mut stream = TcpStream::connect(server).await.unwrap();
    if is_reused {
        stream.write_all(b"GET /p/1 HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
    }
    stream
}

/// Sends one byte each second.
async fn slow(server: SocketAddr) {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    for byte in b"GET /p/1 HTTP/1.1\r\nHost: localhost\r\nX-Slow: ".iter().chain(std::iter::repeat(&b'x')) {
        second.tick().await;
        stream.write_all(&[*byte]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_and_slow_connections_do_not_disturb_others() {
    let _turn = turn().await;
    let (idle_ones, slow_ones) = crowd();
    let origin = Origin::start().await;
    // Longer than the test, so that all connections stay open until its end.
    let proxy = block_in_place(|| Proxy::start(&settings(&origin, "[deadlines]\nclient_head = \"300s\"\n")));
    let run = async || {
        let load = Load::start(&[proxy.address], CLIENTS, Habit::KeepAlive);
        load.hits(CLIENTS).await;
        tokio::time::sleep(scenario_length() / 2).await;
        load.stop().await
    };
    let alone = run().await;
    let mut idling = Vec::new();
    for index in 0..idle_ones {
        idling.push(idle(proxy.address, index % 2 == 0).await);
    }
    let mut slowly = JoinSet::new();
    (0..slow_ones).for_each(|_| drop(slowly.spawn(slow(proxy.address))));
    let crowded = run().await;

    println!("{idle_ones} idle and {slow_ones} slow connections: {:?} failed", crowded.failures());
    println!("  without {}", alone.all());
    println!("  with    {}", crowded.all());
    assert!(alone.failures().is_empty() && crowded.failures().is_empty(), "{:?}", crowded.failures());
    assert_eq!((alone.retried, crowded.retried), (0, 0));
    assert!(slowly.try_join_next().is_none(), "a slow connection was lost");
    // An idle connection is served when it sends a request.
    for stream in idling.iter_mut().step_by(50) {
        stream.write_all(b"GET /p/2 HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_leave_file_descriptors_for_the_origin() {
    let origin = Origin::start().await;
    let proxy = block_in_place(|| Proxy::start_limited(256, &settings(&origin, "")));
    block_in_place(|| proxy.says("no files for so many connections"));
    let mut before = std::array::from_fn::<_, 4, _>(|_| Client::new(proxy.address, Habit::KeepAlive));
    for client in &mut before {
        assert_eq!(client.fetch("/p/1").await.unwrap().status, 200);
    }
    for round in 0..3 {
        let crowd = crowd_of(300, proxy.address).await;
        status_comes(proxy.address, 503).await;
        // At the same time, so that new connections to the origin are needed.
        let pages = [0, 1, 2, 3].map(|index| format!("/p/{round}-{index}"));
        let [first, second, third, fourth] = &mut before;
        let answers = tokio::join!(
            first.fetch(&pages[0]),
            second.fetch(&pages[1]),
            third.fetch(&pages[2]),
            fourth.fetch(&pages[3]),
        );
        for answer in <[_; 4]>::from(answers) {
            assert_eq!(answer.unwrap().status, 200);
        }
        drop(crowd);
        status_comes(proxy.address, 200).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_file_descriptors_the_proxy_recovers_when_connections_close() {
    if Over::is_chosen() {
        // Only answers to refused connections take more file descriptors than there are, and over TLS there are none.
        return println!("NOT TESTED over TLS: running out of file descriptors");
    }
    let origin = Origin::start().await;
    // Too few to answer 503 to every refused connection.
    let proxy = block_in_place(|| Proxy::start_limited(64, &settings(&origin, "")));
    let mut before = Client::new(proxy.address, Habit::KeepAlive);
    assert_eq!(before.fetch("/p/1").await.unwrap().status, 200);
    for _ in 0..3 {
        let crowd = crowd_of(100, proxy.address).await;
        block_in_place(|| proxy.says("cannot accept a connection"));
        // Open connections are served meanwhile.
        assert_eq!(before.fetch("/p/1").await.unwrap().status, 200);
        drop(crowd);
        status_comes(proxy.address, 503).await;
    }
    drop(before);
    status_comes(proxy.address, 200).await;
}

/// Connections without a request. The kernel queues those that the program cannot accept.
async fn crowd_of(count: usize, server: SocketAddr) -> Vec<TcpStream> {
    let mut crowd = Vec::new();
    for _ in 0..count {
        crowd.push(TcpStream::connect(server).await.unwrap());
    }
    crowd
}

/// Sends requests until one has this status: the proxy notices a little later that a connection was closed.
async fn status_comes(server: SocketAddr, status: u16) {
    let comes = async {
        let is_it = |reply: Result<Answer, String>| match reply {
            Ok(reply) => reply.status == status,
            Err(_) => status == 503 && Over::is_chosen(),
        };
        while !is_it(Client::new(server, Habit::Anew).fetch("/p/1").await) {}
    };
    timeout(PATIENCE, comes).await.expect("the proxy recovers in time");
}

/// With a short backlog, clients would have to retry their connection after a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_wait_while_the_proxy_is_busy() {
    let origin = Origin::start().await;
    let proxy = block_in_place(|| Proxy::start(&settings(&origin, "")));
    proxy.signal("STOP");
    let mut waiting = Vec::new();
    for _ in 0..1000 {
        let connect = timeout(PATIENCE, TcpStream::connect(proxy.address));
        waiting.push(connect.await.expect("the backlog has room").unwrap());
    }
    proxy.signal("CONT");
    for mut stream in waiting {
        stream.write_all(b"GET /p/1 HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
    }
}
