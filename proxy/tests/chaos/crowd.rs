//! Thousands of connections that do nothing, hundreds that are slow, and none left for more: others are answered.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::timeout;

use crate::load::{CLIENTS, Client, Habit, Load};
use crate::origin::Origin;
use crate::program::Proxy;
use crate::{PATIENCE, scenario_length, turn};

/// Idle and slow connections: all that the issue asks for where there is time for figures.
fn crowd() -> (usize, usize) {
    if scenario_length() >= Duration::from_secs(30) { (8000, 200) } else { (500, 50) }
}

fn settings(origin: &Origin, rest: &str) -> String {
    format!(
        "listen = \"127.0.0.1:0\"\norigin = \"http://{}\"\nstore = \"memory\"\n{rest}[[cache_page]]\npath = \"/p/*\"\n",
        origin.address
    )
}

/// Half of them have asked something before.
async fn idle(server: SocketAddr, has_asked: bool) -> TcpStream {
    let mut stream = TcpStream::connect(server).await.unwrap();
    if has_asked {
        stream.write_all(b"GET /p/1 HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
    }
    stream
}

/// Sends a byte a second.
async fn slow(server: SocketAddr) {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    for byte in b"GET /p/1 HTTP/1.1\r\nHost: localhost\r\nX-Slow: ".iter().chain(std::iter::repeat(&b'x')) {
        second.tick().await;
        stream.write_all(&[*byte]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_and_slow_connections_leave_others_as_they_were() {
    let _turn = turn().await;
    let (idle_ones, slow_ones) = crowd();
    let origin = Origin::start().await;
    // Longer than the test, so that all are there until its end.
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
    // Who was idle is served when it asks.
    for stream in idling.iter_mut().step_by(50) {
        stream.write_all(b"GET /p/2 HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_leave_files_for_the_origin() {
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
        // Together, so that there are not enough connections to the origin yet.
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
async fn out_of_file_descriptors_it_recovers_when_connections_close() {
    let origin = Origin::start().await;
    // Too few to tell all whom there is no place for.
    let proxy = block_in_place(|| Proxy::start_limited(64, &settings(&origin, "")));
    let mut before = Client::new(proxy.address, Habit::KeepAlive);
    assert_eq!(before.fetch("/p/1").await.unwrap().status, 200);
    for _ in 0..3 {
        let crowd = crowd_of(100, proxy.address).await;
        block_in_place(|| proxy.says("cannot accept a connection"));
        // Who has a connection is served meanwhile.
        assert_eq!(before.fetch("/p/1").await.unwrap().status, 200);
        drop(crowd);
        status_comes(proxy.address, 503).await;
    }
    drop(before);
    status_comes(proxy.address, 200).await;
}

/// Connections that ask nothing. The kernel takes those that the program cannot.
async fn crowd_of(count: usize, server: SocketAddr) -> Vec<TcpStream> {
    let mut crowd = Vec::new();
    for _ in 0..count {
        crowd.push(TcpStream::connect(server).await.unwrap());
    }
    crowd
}

/// Asks until that is the answer: whoever closed a connection is gone a little later.
async fn status_comes(server: SocketAddr, status: u16) {
    let comes = async {
        while !Client::new(server, Habit::Anew).fetch("/p/1").await.is_ok_and(|reply| reply.status == status)
        {
        }
    };
    timeout(PATIENCE, comes).await.expect("it recovers");
}

/// With a short backlog, the others would have to try again after a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_wait_while_it_is_busy() {
    let origin = Origin::start().await;
    let proxy = block_in_place(|| Proxy::start(&settings(&origin, "")));
    proxy.signal("STOP");
    let mut waiting = Vec::new();
    for _ in 0..1000 {
        let connect = timeout(PATIENCE, TcpStream::connect(proxy.address));
        waiting.push(connect.await.expect("there is room").unwrap());
    }
    proxy.signal("CONT");
    for mut stream in waiting {
        stream.write_all(b"GET /p/1 HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
    }
}
