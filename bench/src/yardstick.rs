//! `yardstick`: a server of one prepared answer, at the lowest possible cost.
//!
//! The rate that the load loop gets from it is the load loop's own limit.

use std::io;
use std::process::ExitCode;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::args::YardstickArgs;

/// Serves until the process ends.
pub(crate) async fn run(args: &YardstickArgs) -> ExitCode {
    let Err(error) = serve(args).await;
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

async fn serve(args: &YardstickArgs) -> io::Result<std::convert::Infallible> {
    let listener = TcpListener::bind(args.listen).await?;
    println!("yardstick listening on http://{}", listener.local_addr()?);
    let answer = answer(args.size);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // An error of one connection does not affect the others.
        tokio::spawn(converse(stream, answer.clone()));
    }
}

fn answer(size: usize) -> Bytes {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {size}\r\nX-Cache: HIT\r\n\r\n"
    )
    .into_bytes();
    answer.resize(answer.len() + size, b' ');
    answer.into()
}

/// Sends an answer for each empty line: requests here have no body, so an empty line ends each request.
async fn converse(mut stream: TcpStream, answer: Bytes) -> io::Result<()> {
    const END: &[u8] = b"\r\n\r\n";
    let mut asked = Vec::with_capacity(4096);
    while stream.read_buf(&mut asked).await? > 0 {
        while let Some(end) = asked.windows(END.len()).position(|window| window == END) {
            asked.drain(..end + END.len());
            stream.write_all(&answer).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_request_gets_the_whole_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let answer = answer(3);
        assert!(answer.ends_with(b"Content-Length: 3\r\nX-Cache: HIT\r\n\r\n   "));
        let served = tokio::spawn(converse(server, answer.clone()));
        // Two requests come at once, the second in two pieces.
        client.write_all(b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n").await.unwrap();
        client.write_all(b"\r\n").await.unwrap();
        client.shutdown().await.unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, [&answer[..], &answer[..]].concat());
        served.await.unwrap().unwrap();
    }
}
