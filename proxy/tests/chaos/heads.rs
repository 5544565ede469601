//! Heads that nobody sends twice leave nothing behind: what is remembered of requests is bounded.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::block_in_place;
use tokio::time::timeout;

use crate::backend::Backend;
use crate::origin::Origin;
use crate::program::Proxy;
use crate::{PATIENCE, turn};

/// How each answer begins.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK";

/// So many heads are sent at a time.
const BATCH: usize = 50;

/// After so many requests everything that is bounded has its size.
const FIRST: usize = 2_000;

/// If the memory grew by this, 260 bytes of each head would be remembered.
const GROWTH: usize = 2 << 20;

/// A head with names and values, conditions, ranges and directives of its own.
fn head(number: usize) -> String {
    format!(
        "GET /size/500/1 HTTP/1.1\r\nHost: localhost:8000\r\nUser-Agent: agent/{number}\r\nCookie: session={number}\r\n\
         X-{number}: {number}\r\nIf-None-Match: \"{number}\", W/\"x{number}\"\r\nRange: bytes=0-1,{number}-\r\n\
         If-Range: \"{number}\"\r\nCache-Control: max-age={}, x-{number}=\"{number}\"\r\n\r\n",
        1_000 + number
    )
}

/// Sends heads with these numbers, and reads an answer to each.
async fn send(client: &mut TcpStream, numbers: std::ops::Range<usize>) {
    let mut numbers = numbers.peekable();
    while numbers.peek().is_some() {
        let heads: Vec<_> = numbers.by_ref().take(BATCH).map(head).collect();
        client.write_all(heads.concat().as_bytes()).await.unwrap();
        let (mut answers, mut count, mut counted) = (Vec::new(), 0, 0);
        while count < heads.len() {
            let read = timeout(PATIENCE, client.read_buf(&mut answers)).await.expect("an answer in time");
            assert!(read.unwrap() > 0, "the connection is closed");
            count += answers[counted..].windows(ANSWER.len()).filter(|part| *part == ANSWER).count();
            counted = answers.len().saturating_sub(ANSWER.len() - 1);
        }
    }
}

async fn take_no_memory(store: &str) {
    let origin = Origin::start().await;
    let settings = format!(
        "listen = \"127.0.0.1:0\"\norigin = \"http://{}\"\n{store}\n[[cache_page]]\npath = \"/*\"\ntimeout = 600\n\
         policy = \"http\"\ndefault_timeout = 600\n",
        origin.address
    );
    let proxy = block_in_place(|| Proxy::start(&settings));
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    send(&mut client, 0..FIRST).await;
    let before = proxy.resident();
    send(&mut client, FIRST..5 * FIRST).await;
    let grown = proxy.resident().saturating_sub(before);
    println!("{} heads: {} KiB more", 4 * FIRST, grown >> 10);
    assert!(grown < GROWTH, "{grown} bytes for {} heads", 4 * FIRST);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_nobody_sends_twice_take_no_memory() {
    let _turn = turn().await;
    let redis = block_in_place(Backend::start).unwrap();
    let near = format!("store = \"{}\"\nnear = \"32MiB\"", redis.url());
    for store in ["store = \"memory\"\nmemory_limit = \"32MiB\"", &near] {
        take_no_memory(store).await;
    }
}
